/* service.c - from a message to the method and back; what varlink itself asks */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/error.h"
#include "slots.h"
#include "tapdisk/log/log.h"

#define VARLINK_DESCRIPTION                                                              \
	"# What every varlink service answers\n"                                         \
	"interface org.varlink.service\n\n"                                              \
	"method GetInfo() -> (\n"                                                        \
	"  vendor: string,\n  product: string,\n  version: string,\n  url: string,\n"    \
	"  interfaces: []string\n)\n\n"                                                  \
	"method GetInterfaceDescription(interface: string) -> (description: string)\n\n" \
	"error InterfaceNotFound (interface: string)\n"                                  \
	"error MethodNotFound (method: string)\n"                                        \
	"error InvalidParameter (parameter: string)\n"                                   \
	"error ExpectedMore ()\n"

/* ── what the handlers use ── */

bool call_has(const struct call *call, const char *name)
{
	const json_t *value = json_object_get(call->message.parameters, name);

	return value && !json_is_null(value);
}

const char *call_text(const struct call *call, const char *name)
{
	return json_string_value(json_object_get(call->message.parameters, name));
}

int64_t call_int(const struct call *call, const char *name, int64_t otherwise)
{
	const json_t *value = json_object_get(call->message.parameters, name);

	return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

bool call_bool(const struct call *call, const char *name)
{
	return json_is_true(json_object_get(call->message.parameters, name));
}

static void call_end(struct call *call)
{
	struct client *client = call->client;
	struct control *control = call->control;

	if (call->slot && call->method->flags & METHOD_LIFE)
		slots_idle(call->slot);
	list_remove(&call->link);
	message_call_release(&call->message);
	free(call);
	loop_defer(control->loop, &control->step_task);
	if (client)
		client_idle(client);
}

static void call_send(struct call *call, json_t *message)
{
	if (call->client && !call->message.oneway)
		client_send(call->client, message);
	else
		json_decref(message);
}

void call_reply(struct call *call, json_t *out)
{
	call_send(call, json_pack("{s:o}", "parameters", out));
	call_end(call);
}

void call_continue(struct call *call, json_t *out)
{
	call_send(call, json_pack("{s:o, s:b}", "parameters", out, "continues", 1));
}

void call_fail(struct call *call, const struct vhd_error *err)
{
	const char *text = err->text[0] ? err->text : vhd_strerror(err->code);

	log_write(LOG_LEVEL_INFO, "call-failed", LOG_NO_MINOR, "%s: %s", call->method->name, text);
	/* a name in the text may be no UTF-8: then the sentence of the code stands for it */
	if (call->client && !call->message.oneway) {
		json_t *told = json_string(text);

		if (!told)
			told = json_string(vhd_strerror(err->code));
		client_send(call->client,
			    json_pack("{s:s, s:{s:i, s:s, s:o}}", "error", MESSAGE_FAILED,
				      "parameters", "status", vhd_exit_status(err->code), "code",
				      vhd_error_name(err->code), "text", told));
	}
	call_end(call);
}

void call_refuse(struct call *call, int code, const char *format, ...)
{
	struct vhd_error err = { 0 };
	char text[sizeof(err.text)];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	error_set(&err, code, "%s", text);
	call_fail(call, &err);
}

void service_drop(struct call *call)
{
	call->client = NULL;
	call_end(call);
}

void service_orphan(struct call *call)
{
	call->client = NULL;
	/* a stream has no end of its own */
	if (call->method->flags & METHOD_MORE)
		call_end(call);
}

bool service_is_stream(const struct control *control, const struct client *client)
{
	for (const struct list *l = control->calls.next; l != &control->calls; l = l->next) {
		const struct call *call = list_entry(l, const struct call, link);

		if (call->client == client)
			return call->method->flags & METHOD_MORE;
	}
	return false;
}

/* ── answers without a call ── */

static void answer(struct client *client, const struct message_call *message, json_t *reply)
{
	if (message->oneway)
		json_decref(reply);
	else
		client_send(client, reply);
	client_idle(client);
}

static void answer_error(struct client *client, const struct message_call *message,
			 const char *error, const char *key, const char *value)
{
	answer(client, message,
	       json_pack("{s:s+, s:{s:s}}", "error", MESSAGE_VARLINK ".", error, "parameters", key,
			 value));
}

static void get_info(struct client *client, const struct message_call *message)
{
	answer(client, message,
	       json_pack("{s:{s:s, s:s, s:s, s:s, s:[s, s]}}", "parameters", "vendor",
			 "vhd-toolkit", "product", "tapdisk", "version", vhd_version(), "url", "",
			 "interfaces", MESSAGE_VARLINK, MESSAGE_INTERFACE));
}

static void get_description(struct client *client, const struct message_call *message)
{
	const char *name = json_string_value(json_object_get(message->parameters, "interface"));
	const char *text = NULL;

	if (!name || json_object_size(message->parameters) != 1) {
		answer_error(client, message, "InvalidParameter", "parameter", "interface");
		return;
	}
	if (!strcmp(name, MESSAGE_INTERFACE))
		text = methods_description();
	else if (!strcmp(name, MESSAGE_VARLINK))
		text = VARLINK_DESCRIPTION;
	if (text)
		answer(client, message, json_pack("{s:{s:s}}", "parameters", "description", text));
	else
		answer_error(client, message, "InterfaceNotFound", "interface", name);
}

/* ── calls of our methods ── */

static const struct method *find_method(const char *name)
{
	for (const struct method *m = methods; m->name; m++)
		if (!strcmp(m->name, name))
			return m;
	return NULL;
}

static bool value_fits(const struct parameter *p, const json_t *value)
{
	bool bounded = p->least || p->most;
	json_int_t number;

	if (!value || json_is_null(value))
		return p->optional;
	if (p->type == PARAMETER_TEXT)
		return json_is_string(value);
	if (p->type == PARAMETER_BOOL)
		return json_is_boolean(value);
	if (!json_is_integer(value))
		return false;
	number = json_integer_value(value);
	return number >= p->least && (!bounded || number <= p->most);
}

/* The name of a parameter that is wrong, missing or unknown; NULL: all is well. */
static const char *wrong_parameter(const struct method *method, json_t *given)
{
	const char *key;
	json_t *value;

	for (const struct parameter *p = method->in; p->name; p++)
		if (!value_fits(p, json_object_get(given, p->name)))
			return p->name;
	json_object_foreach(given, key, value)
	{
		const struct parameter *p = method->in;

		while (p->name && strcmp(p->name, key))
			p++;
		if (!p->name)
			return key;
	}
	return NULL;
}

/* Find the disk and see that nothing else is under way with it. */
static bool take_slot(struct call *call)
{
	unsigned minor = (unsigned)call_int(call, "minor", 0);

	call->slot = slots_find(call->control, minor);
	if (!call->slot) {
		call_refuse(call, -ENODEV, "minor %u is not attached to this tapdisk", minor);
		return false;
	}
	if (!(call->method->flags & METHOD_LIFE))
		return true;
	if (call->slot->busy || call->slot->resuming) {
		const char *busy = call->slot->busy;

		call->slot = NULL; /* what is under way there is not ours to end */
		call_refuse(call, -EBUSY, "minor %u: %s is under way; wait for its end", minor,
			    busy ? busy : "Unpause");
		return false;
	}
	call->slot->busy = call->method->name;
	return true;
}

static void run_method(struct control *control, struct client *client, const struct method *method,
		       struct message_call *message)
{
	struct call *call = calloc(1, sizeof(*call));

	if (!call) {
		message_call_release(message);
		client_send(client, NULL); /* drops it */
		client_idle(client);
		return;
	}
	call->control = control;
	call->client = client;
	call->method = method;
	call->message = *message;
	list_append(&control->calls, &call->link);
	if (control->stopping) {
		call_refuse(call, -ESHUTDOWN, "this tapdisk is ending");
		return;
	}
	if (method->flags & METHOD_DISK && !take_slot(call))
		return;
	method->run(call);
}

bool service_message(struct control *control, struct client *client, const char *text,
		     size_t length)
{
	const size_t ours = strlen(MESSAGE_INTERFACE ".");
	const struct method *method = NULL;
	struct message_call message;
	const char *why, *wrong;

	if (message_parse_call(text, length, &message, &why) < 0)
		return false;
	if (!strncmp(message.method, MESSAGE_INTERFACE ".", ours))
		method = find_method(message.method + ours);
	if (!strcmp(message.method, MESSAGE_VARLINK ".GetInfo")) {
		get_info(client, &message);
	} else if (!strcmp(message.method, MESSAGE_VARLINK ".GetInterfaceDescription")) {
		get_description(client, &message);
	} else if (!method) {
		answer_error(client, &message, "MethodNotFound", "method", message.method);
	} else if ((wrong = wrong_parameter(method, message.parameters))) {
		answer_error(client, &message, "InvalidParameter", "parameter", wrong);
	} else if (method->flags & METHOD_MORE && !message.more) {
		answer(client, &message,
		       json_pack("{s:s, s:{}}", "error", MESSAGE_VARLINK ".ExpectedMore",
				 "parameters"));
	} else {
		run_method(control, client, method, &message);
		return true;
	}
	message_call_release(&message);
	return true;
}
