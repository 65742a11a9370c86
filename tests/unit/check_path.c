/* check_path.c - texts of paths: POSIX, Windows, URL; and what a message shows of them */
#include <errno.h>
#include <string.h>

#include "libvhd/path.h"
#include "tests/lib/rng.h"
#include "tests/lib/suite.h"

static void relative(const char *from, const char *to, const char *want)
{
	char out[PATH_TEXT_MAX];

	ck_assert_int_eq(path_relative(from, to, out, sizeof(out)), 0);
	ck_assert_msg(!strcmp(out, want), "from %s to %s: %s instead of %s", from, to, out, want);
	/* in exactly its room, and not in less */
	ck_assert_int_eq(path_relative(from, to, out, strlen(want) + 1), 0);
	for (size_t room = 0; room <= strlen(want); room++)
		ck_assert_int_eq(path_relative(from, to, out, room), -ENAMETOOLONG);
}

START_TEST(relatives)
{
	relative("/a/b", "/a/b/c.vhd", "./c.vhd");
	relative("/a/b", "/a/b/c/d.vhd", "./c/d.vhd");
	relative("/a/b", "/a/c.vhd", "../c.vhd");
	relative("/a/b/c", "/a/x/y.vhd", "../../x/y.vhd");
	relative("/a/b", "/x.vhd", "../../x.vhd");
	relative("/", "/x.vhd", "./x.vhd");
	relative("/", "/a/x.vhd", "./a/x.vhd");
	relative("/a", "/x/y", "../x/y");
	relative("/ab", "/a/x", "../a/x"); /* a common start of a name is no directory */
	relative("/a", "/ab/x", "../ab/x");
	relative("/a/b/", "/a/b/x", "./x");
	relative("/a/bc", "/a/b", "../b");
	relative("/a/b", "/a/b", "../b"); /* the directory as a file: through its parent */
}
END_TEST

/* Going back and forth: from a directory along the relative path one arrives. */
START_TEST(relatives_lead_there)
{
	struct rng rng = { suite_seed(1) };

	for (unsigned i = 0; i < 20000; i++) {
		char from[64] = "", to[64] = "", out[128], walk[256];
		const char *rest;
		unsigned n = (unsigned)rng_below(&rng, 5), m = 1 + (unsigned)rng_below(&rng, 5);

		for (unsigned k = 0; k < n; k++)
			strcat(strcat(from, "/"), rng_chance(&rng, 50) ? "a" : "ab");
		for (unsigned k = 0; k < m; k++)
			strcat(strcat(to, "/"), rng_chance(&rng, 50) ? "a" : "ab");
		strcat(to, ".v"); /* a file, not a directory on the way */
		ck_assert_int_eq(path_relative(n ? from : "/", to, out, sizeof(out)), 0);
		strcpy(walk, from);
		rest = out;
		while (!strncmp(rest, "../", 3)) {
			ck_assert_ptr_nonnull(strrchr(walk, '/'));
			*strrchr(walk, '/') = '\0';
			rest += 3;
		}
		if (!strncmp(rest, "./", 2))
			rest += 2;
		strcat(strcat(walk, "/"), rest);
		ck_assert_msg(!strcmp(walk, to), "from %s by %s: %s instead of %s", from, out, walk,
			      to);
	}
}
END_TEST

START_TEST(windows)
{
	static const struct {
		const char *posix, *windows;
	} there[] = {
		{ "./a.vhd", ".\\a.vhd" },    { "../a/b.vhd", "..\\a\\b.vhd" },
		{ "a.vhd", ".\\a.vhd" },      { ".a.vhd", ".\\.a.vhd" },
		{ "/a/b.vhd", "\\a\\b.vhd" },
	};
	static const struct {
		const char *windows, *posix;
		bool absolute;
	} back[] = {
		{ ".\\a.vhd", "./a.vhd", false },
		{ "..\\..\\a b.vhd", "../../a b.vhd", false },
		{ "a.vhd", "a.vhd", false },
		{ "C:\\vm\\v2.vhd", "C:/vm/v2.vhd", true },
		{ "c:v2.vhd", "c:v2.vhd", true },
		{ "\\\\server\\share\\x", "//server/share/x", true },
		{ "\\\\?\\C:\\x", "//?/C:/x", true },
		{ "\\dir\\x", "/dir/x", false }, /* rooted, of no drive */
		{ "", "", false },
	};
	char out[PATH_TEXT_MAX];
	bool absolute;

	for (size_t i = 0; i < sizeof(there) / sizeof(there[0]); i++) {
		ck_assert_int_eq(path_to_windows(there[i].posix, out, sizeof(out)), 0);
		ck_assert_str_eq(out, there[i].windows);
	}
	ck_assert_int_eq(path_to_windows("a\\b", out, sizeof(out)), -EILSEQ);
	ck_assert_int_eq(path_to_windows("abc", out, 5), -ENAMETOOLONG);
	ck_assert_int_eq(path_to_windows("abc", out, 6), 0);
	ck_assert_int_eq(path_to_windows("abc", out, 0), -ENAMETOOLONG);
	for (size_t i = 0; i < sizeof(back) / sizeof(back[0]); i++) {
		absolute = !back[i].absolute;
		ck_assert_int_eq(path_from_windows(back[i].windows, out, sizeof(out), &absolute),
				 0);
		ck_assert_str_eq(out, back[i].posix);
		ck_assert_int_eq(absolute, back[i].absolute);
	}
	ck_assert_int_eq(path_from_windows("abc", out, 3, &absolute), -ENAMETOOLONG);
	ck_assert_int_eq(path_from_windows("abc", out, 4, &absolute), 0);
}
END_TEST

START_TEST(from_and_to_urls)
{
	static const struct {
		const char *url, *path;
		bool absolute;
		int rc;
	} urls[] = {
		{ "file://localhost/vm/v2.vhd", "/vm/v2.vhd", true, 0 },
		{ "file:///vm/v2.vhd", "/vm/v2.vhd", true, 0 },
		{ "FILE://LocalHost/x", "/x", true, 0 },
		{ "file:/vm/x", "/vm/x", true, 0 },
		{ "file://./v2.vhd", "./v2.vhd", false, 0 },
		{ "file:v2.vhd", "v2.vhd", false, 0 },
		{ "file:../v2.vhd", "../v2.vhd", false, 0 },
		{ "file://./a%20b%C3%9C.vhd", "./a b\xc3\x9c.vhd", false, 0 },
		{ "file://./%2e%2E/x", "./../x", false, 0 },
		{ "file:///etc%2Fpasswd", "/etc/passwd", true, 0 },
		{ "file://", "", false, 0 },
		{ "file://elsewhere/x", NULL, false, -EREMOTE },
		{ "file://../x", NULL, false, -EREMOTE },
		{ "file://localhost.evil/x", NULL, false, -EREMOTE },
		{ "http://localhost/x", NULL, false, -EILSEQ },
		{ "x.vhd", NULL, false, -EILSEQ },
		{ "file", NULL, false, -EILSEQ },
		{ "", NULL, false, -EILSEQ },
		{ "file:///a%00b", NULL, false, -EILSEQ },
		{ "file:///a%", NULL, false, -EILSEQ },
		{ "file:///a%4", NULL, false, -EILSEQ },
		{ "file:///a%g1", NULL, false, -EILSEQ },
		{ "file:///a%1g", NULL, false, -EILSEQ },
	};
	char out[64];

	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		bool absolute = !urls[i].absolute;

		ck_assert_msg(path_from_url(urls[i].url, out, sizeof(out), &absolute) == urls[i].rc,
			      "%s", urls[i].url);
		if (urls[i].rc)
			continue;
		ck_assert_str_eq(out, urls[i].path);
		ck_assert_int_eq(absolute, urls[i].absolute);
		ck_assert_int_eq(path_from_url(urls[i].url, out, strlen(urls[i].path), &absolute),
				 -ENAMETOOLONG);
	}
	ck_assert_int_eq(path_to_url("a b#\xc3\x9c", out, sizeof(out)), 0);
	ck_assert_str_eq(out, "file://./a%20b%23%C3%9C");
	ck_assert_int_eq(path_to_url("/a/b", out, sizeof(out)), 0);
	ck_assert_str_eq(out, "file:///a/b");
	ck_assert_int_eq(path_to_url("./a", out, sizeof(out)), 0);
	ck_assert_str_eq(out, "file://./a");
	ck_assert_int_eq(path_to_url("../a", out, sizeof(out)), 0);
	ck_assert_str_eq(out, "file://./../a");
	for (size_t room = 0; room <= strlen("file://./../a"); room++)
		ck_assert_int_eq(path_to_url("../a", out, room), -ENAMETOOLONG);
}
END_TEST

/* Every name but one with NUL or '/' comes back from a URL as it was. */
START_TEST(url_round_trip)
{
	struct rng rng = { suite_seed(1) };

	for (unsigned i = 0; i < 20000; i++) {
		char path[32] = "./", url[128], again[32];
		size_t n = 2 + rng_below(&rng, 28);
		bool absolute = true;

		for (size_t k = 2; k < n; k++)
			path[k] = (char)(1 + rng_below(&rng, 255));
		path[n] = '\0';
		ck_assert_int_eq(path_to_url(path, url, sizeof(url)), 0);
		for (const char *p = url; *p; p++)
			if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f)
				ck_abort_msg("not plain: %s", url);
		ck_assert_int_eq(path_from_url(url, again, sizeof(again), &absolute), 0);
		ck_assert(!absolute);
		ck_assert_str_eq(again, path);
	}
}
END_TEST

START_TEST(base_names)
{
	ck_assert_str_eq(path_base_name("/a/b.vhd"), "b.vhd");
	ck_assert_str_eq(path_base_name("b.vhd"), "b.vhd");
	ck_assert_str_eq(path_base_name("a/"), "");
	ck_assert_str_eq(path_base_name(""), "");
}
END_TEST

START_TEST(quoting)
{
	struct rng rng = { suite_seed(1) };
	char out[64], text[64];

	ck_assert_str_eq(path_quote("a\nb'\\\x7f", out, sizeof(out)), "a\\x0Ab\\x27\\x5C\\x7F");
	ck_assert_str_eq(path_quote("\xc3\x9c", out, sizeof(out)), "\xc3\x9c");
	ck_assert_str_eq(path_quote("abcdefgh", out, 9 + 3), "abcdefgh");
	/* cut between characters, with the mark behind */
	ck_assert_str_eq(path_quote("abc\u20acdefgh", out, 10), "abc\u20ac\u2026");
	ck_assert_str_eq(path_quote("abc\u20acdefgh", out, 9), "abc\u2026");
	ck_assert_str_eq(path_quote("abc\u20acdefgh", out, 8), "abc\u2026");
	ck_assert_str_eq(path_quote("abc\u20acdefgh", out, 7), "abc\u2026");
	ck_assert_str_eq(path_quote("abc\u20acdefgh", out, 6), "ab\u2026");
	for (unsigned i = 0; i < 20000; i++) {
		size_t n = rng_below(&rng, 63), room = 1 + rng_below(&rng, 63);

		for (size_t k = 0; k < n; k++)
			text[k] = (char)(1 + rng_below(&rng, 255));
		text[n] = '\0';
		memset(out, 0x5a, sizeof(out));
		path_quote(text, out, room);
		ck_assert(strlen(out) < room);
		for (const char *p = out; *p; p++)
			if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '\'')
				ck_abort_msg("not quoted: %s", out);
		for (size_t k = room; k < sizeof(out); k++)
			if (out[k] != 0x5a)
				ck_abort_msg("beyond %zu bytes", room);
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = { relatives,	 relatives_lead_there, windows, from_and_to_urls,
				 url_round_trip, base_names,	       quoting, NULL };

	return suite_run("path", tests);
}
