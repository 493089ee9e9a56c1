/** What comes from the host: messages to whom they concern, event flags to channels. */
import { MAX_MESSAGE_BYTES, SLOT_PAYLOAD, SLOT_SIZE } from "../../synic/synic.ts";
import { DecodeError, decodeMessage } from "../wire/codec.ts";
import { type Message, MessageType, SYNIC_MESSAGE_TYPE } from "../wire/messages.ts";
import { Version } from "../wire/versions.ts";
import { type GuestCore, MAX_RELIDS } from "./core.ts";
import { onOffer, onRescind } from "./offers.ts";
import type { WorkQueue } from "./scheduler.ts";

/** Linux 6.12 knows the types below (CHANNELMSG_COUNT). */
const LINUX_TYPES = 25;
/** Offers or rescinds that may wait at once, safe only: a host that floods gains nothing. */
const MAX_QUEUED = 2 * MAX_RELIDS;

/** Handles a message slot's copy (256 bytes). Nothing in it is trusted. Linux 6.12 drivers/hv/vmbus_drv.c, vmbus_on_msg_dpc. */
export function onSlot(core: GuestCore, slot: Uint8Array): void {
	const data = new DataView(slot.buffer, slot.byteOffset, slot.length);
	const synicType = data.getUint32(0, true);
	const bytes = slot[SLOT_SIZE] as number;
	if (synicType === 0) return;
	if (synicType !== SYNIC_MESSAGE_TYPE && !core.linux) {
		core.warn(`a message of SynIC type 0x${synicType.toString(16)} is dropped`);
		return;
	}
	if (bytes > MAX_MESSAGE_BYTES) {
		core.warn(`a message of ${bytes} bytes is dropped`);
		return;
	}
	const type = data.getUint32(SLOT_PAYLOAD, true);
	// Linux takes these two at any length
	if (core.linux && (type === MessageType.AllOffersDelivered || type === MessageType.UnloadResponse)) {
		if (type === MessageType.UnloadResponse) core.unloaded.complete();
		return;
	}
	if (core.linux && type >= LINUX_TYPES) return;
	const version = core.linux ? Version.V5_3 : versionFor(core, type);
	const message = decodeMessage(slot.subarray(SLOT_PAYLOAD, SLOT_PAYLOAD + bytes), {
		version,
		direction: "server",
		...(core.linux ? {} : { features: core.features }),
	});
	if (message instanceof DecodeError) core.warn(`a message is dropped: ${message.text}`);
	else onMessage(core, message);
}

/** The version that tells a message's form: that of the contact under way for the answer to it. */
function versionFor(core: GuestCore, type: number): number {
	return type === MessageType.VersionResponse ? core.contactVersion : core.version;
}

function onMessage(core: GuestCore, message: Message): void {
	switch (message.type) {
		case MessageType.OfferChannel:
			if (core.ignoresOffers || isUnwanted(core, core.queues.offers)) return;
			core.offersInProgress++;
			core.queues.offers.queue(() => onOffer(core, message));
			return;
		case MessageType.RescindChannelOffer:
			if ((core.linux && core.ignoresOffers) || isUnwanted(core, core.queues.rescinds)) return;
			core.queues.rescinds.queue(() => onRescind(core, message.relid));
			return;
		case MessageType.UnloadResponse:
			core.unloaded.complete();
			return;
		default:
			core.pending.answer(message);
	}
}

/** Whether the safe guest drops an offer or rescind. */
function isUnwanted(core: GuestCore, queue: WorkQueue): boolean {
	if (core.linux) return false;
	if (core.state !== "connected") return true;
	if (queue.length < MAX_QUEUED) return false;
	core.warn("too many offers or rescinds wait: one is dropped");
	return true;
}
