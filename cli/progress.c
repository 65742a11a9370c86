/* progress.c - percent, rate and time left of long work; and Ctrl-C
 *
 * The line is drawn on stderr, at most ten times a second, and wiped at the
 * end, so that nothing of it stays between messages.  One at a time.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "libvhd/base/number.h"

#define REDRAW_NS     (100 * 1000 * 1000)
#define NS_PER_SECOND (1000ull * 1000 * 1000)
#define FIRST_DRAW_NS (200 * 1000 * 1000) /* short work shows nothing */

static volatile sig_atomic_t stop_asked;

static const int stop_signals[] = { SIGINT, SIGTERM, SIGHUP };
#define STOP_SIGNALS (sizeof(stop_signals) / sizeof(stop_signals[0]))

static struct {
	const char *what; /* borrowed */
	bool visible, running, drawn, always;
	bool counts; /* progress_count: signals are as they were */
	uint64_t began_ns, drawn_ns;
	bool has_first;
	uint64_t first; /* done bytes at the first step: work resumed does not count as fast */
	struct sigaction before[STOP_SIGNALS];
} progress;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

static void on_stop(int signal_number)
{
	(void)signal_number;
	stop_asked = 1;
}

static void draw(uint64_t done, uint64_t total, uint64_t now)
{
	double seconds = (double)(now - progress.began_ns) / (double)NS_PER_SECOND;
	double rate = seconds > 0 ? (double)(done - progress.first) / seconds : 0;
	char amount[24], speed[24], left[32] = "";

	number_format_size(done, amount);
	number_format_size((uint64_t)rate, speed);
	if (total > done && rate >= 1) {
		uint64_t eta = (uint64_t)((double)(total - done) / rate);

		if (eta < 100 * 3600)
			snprintf(left, sizeof(left), ", %" PRIu64 ":%02u:%02u left", eta / 3600,
				 (unsigned)(eta / 60 % 60), (unsigned)(eta % 60));
	}
	if (total)
		fprintf(stderr, "%s%s: %3u %% (%s, %s/s%s)", progress.visible ? "\r\033[K" : "",
			progress.what, (unsigned)((double)done * 100 / (double)total), amount,
			speed, left);
	else
		fprintf(stderr, "%s%s: %s, %s/s", progress.visible ? "\r\033[K" : "", progress.what,
			amount, speed);
	if (!progress.visible) /* not a terminal: a line each */
		putc('\n', stderr);
	fflush(stderr);
	progress.drawn = true;
	progress.drawn_ns = now;
}

static bool is_time(uint64_t now)
{
	uint64_t pause = progress.visible ? REDRAW_NS : NS_PER_SECOND;

	return now - progress.began_ns >= FIRST_DRAW_NS && now - progress.drawn_ns >= pause;
}

static int step(void *arg, uint64_t done, uint64_t total)
{
	uint64_t now;

	(void)arg;
	if (stop_asked)
		return 1;
	if (!progress.visible && !progress.always)
		return 0;
	if (total && done > total)
		done = total;
	if (!progress.has_first) {
		progress.first = done;
		progress.has_first = true;
	}
	if (done < progress.first)
		progress.first = done;
	now = now_ns();
	if (is_time(now))
		draw(done, total, now);
	return 0;
}

static void warn(void *arg, const struct vhd_error *warning)
{
	(void)arg;
	print_warning(warning);
}

struct vhd_progress progress_begin(const char *what, bool always)
{
	/* a second signal ends the program at once: SA_RESETHAND */
	struct sigaction stop = { .sa_handler = on_stop, .sa_flags = (int)SA_RESETHAND };

	memset(&progress, 0, sizeof(progress));
	progress.what = what;
	progress.visible = isatty(STDERR_FILENO);
	progress.always = always;
	progress.running = true;
	progress.began_ns = now_ns();
	sigemptyset(&stop.sa_mask);
	for (size_t k = 0; k < STOP_SIGNALS; k++) {
		sigaction(stop_signals[k], NULL, &progress.before[k]);
		/* what the caller told us to ignore (nohup) stays ignored */
		if (progress.before[k].sa_handler != SIG_IGN)
			sigaction(stop_signals[k], &stop, NULL);
	}
	return (struct vhd_progress){ .step = step, .warn = warn };
}

void progress_count(const char *what, const char *unit, uint64_t done)
{
	uint64_t now;

	if (!progress.running) {
		memset(&progress, 0, sizeof(progress));
		progress.visible = isatty(STDERR_FILENO);
		progress.running = progress.counts = true;
		progress.began_ns = now_ns();
	}
	if (!progress.visible)
		return;
	now = now_ns();
	if (!is_time(now))
		return;
	fprintf(stderr, "\r\033[K%s: %" PRIu64 " %s, %" PRIu64 "/s", what, done, unit,
		(uint64_t)((double)done * (double)NS_PER_SECOND /
			   (double)(now - progress.began_ns)));
	fflush(stderr);
	progress.drawn = true;
	progress.drawn_ns = now;
}

struct vhd_progress progress_warnings(void)
{
	return (struct vhd_progress){ .warn = warn };
}

void progress_end(void)
{
	if (!progress.running)
		return;
	progress.running = false;
	if (progress.visible && progress.drawn) {
		fputs("\r\033[K", stderr);
		fflush(stderr);
	}
	for (size_t k = 0; k < STOP_SIGNALS && !progress.counts; k++)
		sigaction(stop_signals[k], &progress.before[k], NULL);
}
