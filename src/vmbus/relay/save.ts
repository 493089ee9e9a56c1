/** A relay's state as plain data, and back, all of it checked. */
import { MAX_CHANNELS } from "../server/offers.ts";
import { flag, list, nullable, record, text, whole, wrong } from "../server/schema.ts";
import type { HostChannel, HostGpadl, HostSignal, RelayCore, RelayState } from "./core.ts";

const FORMAT = "coco-dma vmbus relay 1";

/** A saved relay. Its content is the business of this file. */
export interface SavedRelay {
	readonly format: typeof FORMAT;
	readonly [field: string]: unknown;
}

const u32 = whole(0, 0xffffffff);
const offerId = whole(1, 2 ** 53 - 1);
const oneOf = <T extends string>(...names: T[]) =>
	text<T>(`one of ${names.join(", ")}`, (value) => (names as string[]).includes(value));

interface State {
	readonly format: typeof FORMAT;
	readonly state: RelayState;
	readonly features: number;
	readonly messageConnectionId: number;
	readonly nextGpadl: number;
	readonly channels: HostChannel[];
	readonly gpadls: HostGpadl[];
}
const state = record<State>({
	format: oneOf(FORMAT),
	state: oneOf("idle", "contacting", "connected", "down"),
	features: whole(0, 0xff),
	messageConnectionId: u32,
	nextGpadl: whole(1, 0xffffffff),
	channels: list(
		record<HostChannel>({
			offerId,
			relid: whole(1, MAX_CHANNELS),
			state: oneOf("closed", "opening", "open"),
			modifying: flag,
			signal: nullable(record<HostSignal>({ connectionId: u32, eventFlag: whole(0, 0xffff), vp: u32 })),
		}),
		MAX_CHANNELS,
	),
	gpadls: list(
		record<HostGpadl>({
			hostGpadl: whole(1, 0xffffffff),
			offerId,
			gpadl: u32,
			state: oneOf("creating", "created", "tearing-down"),
		}),
		2 ** 22,
	),
});

/** All of a relay's state. */
export function saveRelay(core: RelayCore): SavedRelay {
	const lists = { channels: [...core.byOffer.values()], gpadls: [...core.gpadls.values()] };
	return state.save({ ...core, ...lists, format: FORMAT }) as SavedRelay;
}

/** Fills a new relay. @throws RangeError that names what is wrong */
export function restoreRelay(core: RelayCore, saved: unknown): void {
	const loaded = state.load(saved, "saved");
	core.state = loaded.state;
	core.features = loaded.features;
	core.messageConnectionId = loaded.messageConnectionId;
	core.nextGpadl = loaded.nextGpadl;
	if (loaded.channels.length > 0 && loaded.state !== "connected") throw wrong("saved.channels", "none without a host");
	for (const [i, channel] of loaded.channels.entries()) {
		const path = `saved.channels[${i}]`;
		if (core.server.channel(channel.offerId) === undefined || core.byOffer.has(channel.offerId))
			throw wrong(`${path}.offerId`, "a channel of the server, once");
		if (core.byRelid.has(channel.relid)) throw wrong(`${path}.relid`, "a relid of its own");
		if ((channel.state === "closed") !== (channel.signal === null))
			throw wrong(`${path}.signal`, "signal parameters if and only if it is not closed");
		core.add(channel);
	}
	for (const [i, gpadl] of loaded.gpadls.entries()) {
		const path = `saved.gpadls[${i}]`;
		if (core.gpadls.has(gpadl.hostGpadl)) throw wrong(`${path}.hostGpadl`, "an id of its own");
		if (!core.byOffer.has(gpadl.offerId)) throw wrong(`${path}.offerId`, "a relayed channel");
		if (core.findGpadl(gpadl.offerId, gpadl.gpadl) !== undefined) throw wrong(`${path}.gpadl`, "an id of its own");
		core.addGpadl(gpadl);
	}
}
