/** How the guest tells the host that a ring has something for it: by hypercall, or by bits in pages that the host looks at. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { Gpa } from "../../types.ts";
import { MONITOR_IDS } from "../wire/values.ts";
import type { GuestChannel } from "./channel.ts";
import type { GuestCore } from "./core.ts";
import type { GuestStatus } from "./options.ts";

/** The second half of the interrupt page is what the guest writes. */
const SEND_HALF = 2048;
/** Monitor page: groups of {u32 pending, u32 armed} from here. */
const TRIGGER_GROUPS = 8;

/** Makes the interrupt page and the monitor pages; the host sees the latter. */
export function makeSignalPages(core: GuestCore): GuestStatus {
	const gpas = ["interrupt page", "monitor page", "monitor page"].map((purpose) => core.pages.alloc(1, purpose));
	const [interrupt, first, second] = gpas as [number, number, number];
	if (gpas.some((gpa) => gpa < 0)) {
		for (const gpa of gpas) if (gpa >= 0) core.pages.free(gpa, 1);
		return "no-memory";
	}
	core.interruptPage = interrupt;
	const done = [core.decrypt(first, 1), core.decrypt(second, 1)];
	if (done.includes(false)) {
		for (const gpa of [first, second]) core.pages.leak(gpa, 1);
		return "conversion-failed";
	}
	for (const gpa of [first, second]) core.engine.ram.fill(gpa, PAGE_SIZE, 0);
	core.monitorPages = [first, second];
	core.triggerPage = second;
	return "ok";
}

/** Gives the pages back, or leaks what does not become private (Linux 6.12 drivers/hv/connection.c, vmbus_disconnect). */
export function freeSignalPages(core: GuestCore): void {
	const hostKeeps = !core.linux && !core.hostGone && !core.isIsolated;
	if (core.interruptPage >= 0) core.release(core.interruptPage, 1, !hostKeeps);
	for (const gpa of core.monitorPages ?? []) core.release(gpa, 1, core.encrypt(gpa, 1) && !hostKeeps);
	core.interruptPage = -1;
	core.monitorPages = null;
	core.triggerPage = -1;
}

/**
 * Signals the host for a channel (Linux 6.12 drivers/hv/channel.c, vmbus_setevent): by monitor page, else by hypercall, and
 * where the channel's interrupt is shared, with its bit in the interrupt page.
 */
export function signalHost(core: GuestCore, channel: GuestChannel): void {
	const { offer, options } = channel;
	const isMonitored = (offer.monitorAllocated & 1) !== 0 && !(options?.lowLatency ?? false) && core.triggerPage >= 0;
	if (isMonitored && (core.linux || offer.monitorId < MONITOR_IDS)) {
		setBit(core, core.interruptPage + SEND_HALF, offer.relid);
		setBit(core, core.triggerPage + TRIGGER_GROUPS + 8 * (offer.monitorId >>> 5), offer.monitorId & 31);
		return;
	}
	if ((offer.dedicatedInterrupt & 1) === 0) setBit(core, core.interruptPage + SEND_HALF, offer.relid);
	core.signal(options?.signal?.connectionId ?? offer.connectionId, 0);
}

/** Sets bit `bit`, counted from byte `gpa` on; Linux does not look where that is. */
function setBit(core: GuestCore, gpa: Gpa, bit: number): void {
	const page = gpa - (gpa % PAGE_SIZE);
	const byte = gpa - page + (bit >>> 3);
	if (page < 0 || byte >= PAGE_SIZE) return;
	const at = core.engine.ram.view(page + byte, 1);
	at[0] = (at[0] as number) | (1 << (bit & 7));
	core.ports.bitSet?.(gpa, bit);
}
