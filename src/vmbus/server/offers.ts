/** Offers: their checks, relids and connection ids, and the OFFERCHANNEL message. */
import { MAX_CONNECTION_ID } from "../../synic/connections.ts";
import { EVENT_FLAGS } from "../../synic/synic.ts";
import { isGuid } from "../wire/guid.ts";
import { MessageType } from "../wire/messages.ts";
import { MONITOR_IDS, NO_MONITOR_ID, USER_DATA_BYTES } from "../wire/values.ts";
import { Feature, OfferFlag } from "../wire/versions.ts";
import type { ServerChannel, ServerCore } from "./core.ts";
import type { Offer } from "./types.ts";

/** Relids are event flags from 1 on: flag 0 has another use. */
export const MAX_CHANNELS = EVENT_FLAGS - 1;
/** The flags that only Feature.ConfidentialChannels gives their meaning. */
const CONFIDENTIAL_FLAGS = OfferFlag.ConfidentialRingBuffer | OfferFlag.ConfidentialExternalMemory;

/** An offer as a device makes it: the types are needed, the rest has defaults. */
export type OfferOptions = Pick<Offer, "interfaceId" | "instanceId"> & {
	readonly [K in keyof Omit<Offer, "interfaceId" | "instanceId">]?: Offer[K] | undefined;
};

/** Why a channel cannot be offered now. */
export type OfferRefusal = "already-offered" | "too-many-channels" | "relid-taken";

const ORDER_LAST = 2 ** 32 - 1;

/** An offer with all fields. @throws RangeError that names the field */
export function fullOffer(options: OfferOptions): Offer {
	const whole = (name: keyof Offer, value: number, most: number, least = 0): number => {
		if (!Number.isInteger(value) || value < least || value > most)
			throw new RangeError(`${name}: expected a whole number from ${least} to ${most}, not ${value}`);
		return value;
	};
	const guid = (name: "interfaceId" | "instanceId"): string => {
		if (typeof options[name] !== "string" || !isGuid(options[name]))
			throw new RangeError(`${name}: expected a GUID, not "${options[name]}"`);
		return options[name].toLowerCase();
	};
	const flags = whole("flags", options.flags ?? 0, 0xffff);
	const given = options.userData ?? new Uint8Array(0);
	if (!(given instanceof Uint8Array) || given.length > USER_DATA_BYTES)
		throw new RangeError(`userData: expected at most ${USER_DATA_BYTES} bytes`);
	const { monitorId = null } = options;
	const userData = new Uint8Array(USER_DATA_BYTES);
	userData.set(given);
	return {
		interfaceId: guid("interfaceId"),
		instanceId: guid("instanceId"),
		subChannelIndex: whole("subChannelIndex", options.subChannelIndex ?? 0, 0xffff),
		flags,
		mmioMegabytes: whole("mmioMegabytes", options.mmioMegabytes ?? 0, 0xffff),
		mmioMegabytesOptional: whole("mmioMegabytesOptional", options.mmioMegabytesOptional ?? 0, 0xffff),
		userData,
		order: whole("order", options.order ?? ORDER_LAST, ORDER_LAST),
		monitorId: typeof monitorId === "number" ? whole("monitorId", monitorId, MONITOR_IDS - 1) : monitorId,
		dedicatedInterrupt: options.dedicatedInterrupt ?? true,
		relid: options.relid == null ? null : whole("relid", options.relid, MAX_CHANNELS, 1),
		connectionId:
			options.connectionId == null ? null : whole("connectionId", options.connectionId, MAX_CONNECTION_ID, 1),
	};
}

/** Whether external memory is confidential only where the rings are. */
export function areFlagsLegal(flags: number): boolean {
	return (flags & CONFIDENTIAL_FLAGS) !== OfferFlag.ConfidentialExternalMemory;
}

/** What makes a channel the same one: interface, instance and sub-channel index. */
export function sameChannel(a: Offer, b: Offer): boolean {
	return a.instanceId === b.instanceId && a.interfaceId === b.interfaceId && a.subChannelIndex === b.subChannelIndex;
}

/** The order of offers: relids stay the same while the devices do. Sub-channels come behind their primary. */
export function compareOffers(a: Offer, b: Offer): number {
	const text = (x: string, y: string) => (x < y ? -1 : x > y ? 1 : 0);
	return (
		text(a.interfaceId, b.interfaceId) ||
		a.order - b.order ||
		text(a.instanceId, b.instanceId) ||
		a.subChannelIndex - b.subChannelIndex
	);
}

/** Whether a fixed relid is another channel's, now or as soon as that is offered. */
export function isRelidTaken(core: ServerCore, relid: number): boolean {
	if (core.byRelid.has(relid)) return true;
	for (const { offer } of core.channels.values()) if (offer.relid === relid) return true;
	return false;
}

function lowestFree(least: number, isTaken: (id: number) => boolean): number {
	let id = least;
	while (isTaken(id)) id++;
	return id;
}

/** Gives a released channel its relid and ids, and offers it to the guest. */
export function offerToGuest(core: ServerCore, channel: ServerChannel): void {
	const { offer } = channel;
	const fixed = offer.relid === null ? fixedRelids(core) : new Set<number>();
	const relid = offer.relid ?? lowestFree(1, (id) => core.byRelid.has(id) || fixed.has(id));
	const info = core.connected;
	const { sint, vtl, serverMonitorPagesOnly } = core.config;
	const canMonitor = info?.monitorPages != null && (info.serverMonitorPages || !serverMonitorPagesOnly);
	const monitorId = canMonitor ? monitorIdFor(core, offer) : null;
	if (monitorId !== null) core.monitorIds.add(monitorId);
	channel.info = {
		relid,
		connectionId: offer.connectionId ?? relid | (sint << 12) | (vtl << 16),
		monitorId,
	};
	core.byRelid.set(relid, channel);
	channel.state = { name: "Closed" };
	sendOffer(core, channel);
}

function monitorIdFor(core: ServerCore, offer: Offer): number | null {
	const isTaken = (id: number) => core.monitorIds.has(id);
	if (typeof offer.monitorId === "number") return isTaken(offer.monitorId) ? null : offer.monitorId;
	return offer.monitorId === null || core.monitorIds.size === MONITOR_IDS ? null : lowestFree(0, isTaken);
}

function fixedRelids(core: ServerCore): Set<number> {
	const fixed = new Set<number>();
	for (const { offer } of core.channels.values()) if (offer.relid !== null) fixed.add(offer.relid);
	return fixed;
}

/** Sends OFFERCHANNEL of a channel that has its ids. */
export function sendOffer(core: ServerCore, { offer, info }: ServerChannel): void {
	if (info === null) throw new Error("an offer needs a relid");
	core.send({
		type: MessageType.OfferChannel,
		interfaceId: offer.interfaceId,
		instanceId: offer.instanceId,
		flags: offerFlags(core, offer),
		mmioMegabytes: offer.mmioMegabytes,
		userData: offer.userData,
		subChannelIndex: offer.subChannelIndex,
		mmioMegabytesOptional: offer.mmioMegabytesOptional,
		relid: info.relid,
		monitorId: info.monitorId ?? NO_MONITOR_ID,
		monitorAllocated: info.monitorId === null ? 0 : 1,
		dedicatedInterrupt: offer.dedicatedInterrupt ? 1 : 0,
		connectionId: info.connectionId,
	});
}

/** The flags that the guest may see: those of features that it has. */
function offerFlags(core: ServerCore, { flags }: Offer): number {
	if (core.config.oldOfferFlags) return flags;
	let hidden = 0;
	if (!core.has(Feature.ConfidentialChannels)) hidden |= CONFIDENTIAL_FLAGS;
	if (!core.has(Feature.GpaPinning)) hidden |= OfferFlag.PinnedExternalMemory;
	return flags & ~hidden;
}

/** Takes a channel's relid and ids back. */
export function releaseIds(core: ServerCore, channel: ServerChannel): void {
	if (channel.info === null) return;
	core.byRelid.delete(channel.info.relid);
	if (channel.info.monitorId !== null) core.monitorIds.delete(channel.info.monitorId);
	channel.info = null;
}
