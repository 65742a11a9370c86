/* log.c - what the server tells its operator */
#include "log.h"

#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES  1536
#define TEXT_BYTES  1200
#define WHATS	    32u /* words whose rate is known; others share the last place */
#define WHAT_LENGTH 24

static const char *const level_words[] = { "error", "warning", "info", "debug" };
static const int level_syslog[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

struct rate {
	char what[WHAT_LENGTH];
	time_t since;
	unsigned told, suppressed;
};

static struct {
	pthread_mutex_t mutex;
	bool to_syslog;
	enum log_level level;
	struct rate rates[WHATS];
} sink = { .mutex = PTHREAD_MUTEX_INITIALIZER, .level = LOG_LEVEL_INFO };

void log_open(const char *program, bool to_syslog, enum log_level level)
{
	if (to_syslog)
		openlog(program, LOG_PID | LOG_NDELAY, LOG_DAEMON);
	sink.to_syslog = to_syslog;
	sink.level = level;
}

bool log_level_parse(const char *word, enum log_level *out)
{
	for (unsigned k = 0; k < sizeof(level_words) / sizeof(level_words[0]); k++) {
		if (!strcmp(word, level_words[k])) {
			*out = (enum log_level)k;
			return true;
		}
	}
	return false;
}

static struct rate *find_rate(const char *what)
{
	unsigned k = 0;

	while (k < WHATS - 1 && sink.rates[k].what[0] &&
	       strncmp(sink.rates[k].what, what, WHAT_LENGTH - 1))
		k++;
	if (!sink.rates[k].what[0])
		snprintf(sink.rates[k].what, WHAT_LENGTH, "%s", what);
	return &sink.rates[k];
}

/* May it be told now?  *@suppressed: how many were not, before. */
static bool admit(const char *what, time_t now, unsigned *suppressed)
{
	struct rate *rate = find_rate(what);

	if (now - rate->since >= LOG_PERIOD_S || now < rate->since) {
		rate->since = now;
		rate->told = 0;
	}
	if (rate->told >= LOG_BURST) {
		rate->suppressed++;
		return false;
	}
	rate->told++;
	*suppressed = rate->suppressed;
	rate->suppressed = 0;
	return true;
}

/* Adds to @line what fits; quotes, backslashes and control characters escaped. */
static size_t put_quoted(char *line, size_t at, const char *text)
{
	line[at++] = '"';
	for (; *text && at < LINE_BYTES - 8; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			line[at++] = '\\';
		if (c < 0x20 || c == 0x7f)
			at += (size_t)snprintf(line + at, LINE_BYTES - at, "\\x%02x", c);
		else
			line[at++] = (char)c;
	}
	line[at++] = '"';
	return at;
}

static size_t put_time(char *line)
{
	struct timespec now;
	struct tm tm;
	size_t at;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	at = strftime(line, LINE_BYTES, "time=%Y-%m-%dT%H:%M:%S", &tm);
	return at + (size_t)snprintf(line + at, LINE_BYTES - at, ".%03ldZ ", now.tv_nsec / 1000000);
}

static void put_line(const char *line, size_t length)
{
	struct pollfd ready = { .fd = STDERR_FILENO, .events = POLLOUT };

	/* a pipe that is ready takes a line of this length whole */
	if (poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT))
		(void)!write(STDERR_FILENO, line, length);
}

void log_write(enum log_level level, const char *what, int minor, const char *format, ...)
{
	char line[LINE_BYTES], text[TEXT_BYTES];
	unsigned suppressed = 0;
	struct timespec now;
	size_t at = 0;
	bool told;
	va_list ap;

	if (level > sink.level)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&sink.mutex);
	told = admit(what, now.tv_sec, &suppressed);
	pthread_mutex_unlock(&sink.mutex);
	if (!told)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (!sink.to_syslog) /* syslog has its own */
		at = put_time(line);
	at += (size_t)snprintf(line + at, LINE_BYTES - at, "level=%s what=%s ", level_words[level],
			       what);
	if (minor != LOG_NO_MINOR)
		at += (size_t)snprintf(line + at, LINE_BYTES - at, "minor=%d ", minor);
	if (suppressed)
		at += (size_t)snprintf(line + at, LINE_BYTES - at, "suppressed=%u ", suppressed);
	at += (size_t)snprintf(line + at, LINE_BYTES - at, "text=");
	at = put_quoted(line, at, text);
	if (sink.to_syslog) {
		syslog(level_syslog[level], "%.*s", (int)at, line);
		return;
	}
	line[at++] = '\n';
	put_line(line, at);
}
