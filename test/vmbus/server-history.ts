/** A guest that mostly does what it may, for random histories. */

import type { VmbusServer } from "../../src/vmbus/server/server.ts";
import { encodeMessage } from "../../src/vmbus/wire/codec.ts";
import { MessageType as M, type Message } from "../../src/vmbus/wire/messages.ts";
import { Feature, Version } from "../../src/vmbus/wire/versions.ts";
import type { Random } from "../helpers/random.ts";
import { contact, gpadlBody, gpadlHeader, openChannel } from "./server-guest.ts";

export interface RandomPost {
	readonly payload: Uint8Array;
	readonly connectionId: number;
	readonly trusted: boolean;
}

/** The next message. @param server what the choice looks at, so that most of a history is legal */
export function randomPost(random: Random, server: VmbusServer): RandomPost {
	const { connection } = server;
	const isConnected = connection.name === "Connected";
	const mustTrust = "info" in connection ? connection.info.trusted : "trusted" in connection && connection.trusted;
	const trusted = mustTrust || (!isConnected && random.oneIn(2));
	const post = (message: Message, connectionId = 1): RandomPost => ({
		payload: encodeMessage(message),
		connectionId,
		trusted: random.oneIn(20) ? !trusted : trusted,
	});
	const contactAgain = () => {
		const version = random.oneIn(4) ? random.pick(Object.values(Version)) : Version.V6_0;
		return post(contact(version, (random.u32() & ~Feature.ClientId) >>> 0), 4);
	};
	const known = server.channels.flatMap(({ info }) => (info === null ? [] : [info.relid]));
	const relid = known.length === 0 || random.oneIn(10) ? random.between(1, 6) : random.pick(known);
	const opened = server.channels.flatMap(({ state, info }) =>
		state.name === "Open" && info !== null ? [info.relid] : [],
	);
	const openRelid = opened.length === 0 || random.oneIn(4) ? relid : random.pick(opened);
	const gpadl = random.below(12);
	const channel = server.channels.find(({ info }) => info?.relid === relid);
	const own = server.gpadls(channel?.offerId ?? 0).find(() => random.oneIn(2));
	if (!isConnected && !random.oneIn(4)) return contactAgain();
	if (isConnected && connection.info.paused && random.oneIn(3)) return post({ type: M.Resume });
	if (isConnected && !connection.info.offersSent && random.oneIn(2)) return post({ type: M.RequestOffers });
	switch (random.below(20)) {
		case 0:
			if (random.oneIn(8)) return contactAgain();
			return post({ type: M.RequestOffers });
		case 1:
			return post({ type: M.ModifyChannel, relid: openRelid, targetVp: random.below(4) });
		case 2:
		case 3:
			return post(openChannel(relid, own?.gpadl ?? gpadl));
		case 4:
		case 5:
		case 6:
			return post(gpadlHeader(relid, gpadl, random.oneIn(3) ? random.between(27, 90) : random.between(1, 26)));
		case 7:
		case 8:
			return post(gpadlBody(gpadl, random.below(1000), random.between(1, 28)));
		case 9:
			return post({ type: M.GpadlTeardown, relid, gpadl: own?.gpadl ?? gpadl });
		case 10:
		case 11:
		case 12:
			return post(openChannel(relid, own?.gpadl ?? gpadl, { connectionId: relid, eventFlag: 9, openFlags: 1 }));
		case 13:
			return post({ type: M.CloseChannel, relid: openRelid });
		case 14:
			return post({ type: M.RelidReleased, relid });
		case 15:
			return post({ type: M.ModifyChannel, relid: openRelid, targetVp: random.below(4) });
		case 16:
			return random.oneIn(8) ? post({ type: M.Unload }) : post({ type: M.ModifyConnection, monitorPages: [0, 0] });
		case 17:
			return post({ type: random.pick([M.Pause, M.Pause, M.Resume]) });
		case 18:
			return random.oneIn(2)
				? post({ type: M.OpenReservedChannel, relid, targetVp: 0, sint: 5, ringGpadl: gpadl, downstreamPage: 1 })
				: post({ type: M.CloseReservedChannel, relid: openRelid, targetVp: 1, sint: 6 });
		default: {
			const payload = random.bytes(random.below(245));
			if (payload.length > 3) payload.set([random.below(32), 0, 0, 0]);
			if (payload.length > 11) payload.set([relid, 0, 0, 0], 8);
			return { payload, connectionId: random.pick([1, 1, 4, 7]), trusted };
		}
	}
}
