/* spin.c - the window within which an event is looked for, as experience sets it */
#include "spin.h"

#include "libvhd/base/number.h"

void spin_expect(struct spin *spin, uint64_t now_ns)
{
	if (spin->max_ns && !spin->since_ns)
		spin->since_ns = now_ns;
}

void spin_event(struct spin *spin, uint64_t now_ns)
{
	uint64_t waited_ns = now_ns - spin->since_ns;

	if (!spin->since_ns)
		return;
	spin->since_ns = 0;
	if (waited_ns <= spin->window_ns)
		return;
	if (waited_ns <= spin->max_ns) /* a longer window would have seen it */
		spin->window_ns = number_min(number_max(2 * spin->window_ns, SPIN_MIN_NS),
					     spin->max_ns);
	else
		spin->window_ns = spin->window_ns / 2 < SPIN_MIN_NS ? 0 : spin->window_ns / 2;
}

bool spin_goes_on(const struct spin *spin, uint64_t now_ns)
{
	return spin->since_ns && now_ns - spin->since_ns < spin->window_ns;
}
