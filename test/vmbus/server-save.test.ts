import { describe, expect, it } from "vitest";
import { VmbusRelay } from "../../src/vmbus/relay/relay.ts";
import { VmbusServer } from "../../src/vmbus/server/server.ts";
import { MessageType as M } from "../../src/vmbus/wire/messages.ts";
import { Feature, Version } from "../../src/vmbus/wire/versions.ts";
import { device, TestGuest, types } from "./server-guest.ts";

/** A saved server, loosely typed, to be changed. */
// biome-ignore lint/suspicious/noExplicitAny: a saved state is whatever a file holds
type Saved = any;

/** A connected guest with an open channel, a closed one, GPADLs accepted, under way and offered. */
function busy(): TestGuest {
	const guest = new TestGuest();
	for (const n of [1, 2]) guest.offer(device(n, { monitorId: "any" }));
	guest.connect(Version.V6_0, Feature.ModifyConnection);
	guest.gpadl(1, 7, 4);
	guest.open(1, 7);
	guest.eager = false;
	guest.gpadl(1, 8, 40);
	guest.gpadl(1, 9, 2);
	return guest;
}
const saved = (): Saved => JSON.parse(JSON.stringify(busy().server.save()));

describe("a saved server", () => {
	it("goes on: what was due is still due, bodies still belong to their headers, messages that waited are sent", () => {
		const guest = busy();
		guest.server.hold([]);
		guest.offer(device(3));
		const server = VmbusServer.restore({}, JSON.parse(JSON.stringify(guest.server.save())));
		expect(types(guest.step(server.retry()))).toEqual([M.OfferChannel]);
		expect(guest.step(server.complete({ type: "gpadl", offerId: 1, gpadl: 9, status: 0 })).sent).toEqual([
			{ type: M.GpadlCreated, relid: 1, gpadl: 9, status: 0 },
		]);
		expect(server.channels.map(({ state, info }) => [state.name, info?.relid])).toEqual([
			["Open", 1],
			["Closed", 2],
			["Closed", 3],
		]);
		expect(server.gpadls(1).map(({ gpadl, state }) => [gpadl, state])).toEqual([
			[7, "Accepted"],
			[8, "InProgress"],
			[9, "Accepted"],
		]);
	});

	it("is refused when its parts do not fit together, and the message says which", () => {
		const cases: [change: (state: Saved) => void, message: RegExp][] = [
			[(s) => (s.channels[1].info.relid = 1), /channels\[1\]\.info\.relid/],
			[(s) => (s.channels[1].info.monitorId = 0), /channels\[1\]\.info\.monitorId/],
			[(s) => (s.channels[1].offerId = 1), /channels\[1\]\.offerId/],
			[(s) => (s.nextOfferId = 2), /channels\[1\]\.offerId/],
			[(s) => (s.channels[1].offer.instanceId = s.channels[0].offer.instanceId), /channels\[1\]\.offer:/],
			[(s) => (s.channels[1].offer.flags = 4), /offer\.flags/],
			[(s) => (s.channels[1].info = null), /channels\[1\]\.info/],
			[(s) => (s.channels[1].state = { name: "ClientReleased" }), /channels\[1\]\.info/],
			[(s) => (s.connection.info.offersSent = false), /state\.name/],
			[(s) => (s.connection = { name: "Disconnected" }), /state\.name/],
			[(s) => (s.connection.info.version = 0x60001), /info\.version/],
			[(s) => (s.connection.info.features = Feature.ConfidentialChannels), /info\.features/],
			[(s) => (s.channels[0].gpadls[2].gpadl = 7), /gpadls\[2\]\.gpadl/],
			[(s) => (s.channels[0].gpadls[0].state = "OfferedTearingDown"), /gpadls\[0\]\.state/],
			[(s) => (s.channels[0].gpadls[0].ranges[0].pfns.length = 3), /gpadls\[0\]\.ranges/],
			[(s) => (s.channels[0].gpadls[0].rangeCount = 2), /gpadls\[0\]\.ranges/],
			[(s) => (s.channels[0].gpadls[0].quadwords = 4), /gpadls\[0\]\.ranges/],
			[(s) => (s.channels[0].gpadls[1].quadwords = 27), /gpadls\[1\]\.received/],
			[(s) => (s.channels[0].gpadls[1].ranges = s.channels[0].gpadls[0].ranges), /gpadls\[1\]\.received/],
			[(s) => s.channels[1].gpadls.push(s.channels[0].gpadls[1]), /channels\[1\]\.gpadls\[0\]\.gpadl/],
			[(s) => (s.outgoing = ["1100000000000000"]), /saved\.outgoing/],
			[(s) => Object.assign(s, { slotBusy: true, outgoing: ["0300000000000000"] }), /saved\.outgoing\[0\]/],
			[(s) => (s.more = 1), /saved\.more/],
		];
		for (const [change, message] of cases) {
			const state = saved();
			change(state);
			expect(() => VmbusServer.restore({}, state), String(change)).toThrow(message);
		}
		const idle: Saved = new VmbusServer().save();
		const next = { name: "UnloadResponse", respond: true };
		const stuck = { ...idle, connection: { name: "Disconnecting", version: 0x60000, trusted: false, next } };
		expect(() => VmbusServer.restore({}, stuck)).toThrow(/saved\.connection\.name/);
		expect(() => VmbusServer.restore({ maxGpadlPages: 40 }, saved())).toThrow(/at most 40 pages/);
		expect(() => VmbusServer.restore({ versions: [Version.V5_3] }, saved())).toThrow(/info\.version/);
	});
});

describe("a saved relay", () => {
	it("is refused without the server that it was saved with, and when ids are there twice", () => {
		const server = new VmbusServer();
		for (const n of [1, 2]) server.offer(device(n));
		const channel = (offerId: number, relid: number) => ({
			offerId,
			relid,
			state: "closed",
			modifying: false,
			signal: null,
		});
		const gpadl = (hostGpadl: number, id: number, offerId = 1) => ({ hostGpadl, offerId, gpadl: id, state: "created" });
		const state = (channels: object[], gpadls: object[] = []): Saved => ({
			...new VmbusRelay(server).save(),
			state: "connected",
			channels,
			gpadls,
		});
		const restore = (from: Saved) => () => VmbusRelay.restore(server, {}, from);
		expect(restore(state([channel(1, 5), channel(2, 6)], [gpadl(1, 7), gpadl(2, 7, 2)]))).not.toThrow();
		expect(restore(state([channel(3, 5)]))).toThrow(/channels\[0\]\.offerId/);
		expect(restore(state([channel(1, 5), channel(1, 6)]))).toThrow(/channels\[1\]\.offerId/);
		expect(restore(state([channel(1, 5), channel(2, 5)]))).toThrow(/channels\[1\]\.relid/);
		expect(restore(state([{ ...channel(1, 5), state: "open" }]))).toThrow(/channels\[0\]\.signal/);
		expect(restore(state([channel(1, 5)], [gpadl(1, 7), gpadl(1, 8)]))).toThrow(/gpadls\[1\]\.hostGpadl/);
		expect(restore(state([channel(1, 5)], [gpadl(1, 7), gpadl(2, 7)]))).toThrow(/gpadls\[1\]\.gpadl/);
		expect(restore(state([channel(1, 5)], [gpadl(1, 7, 2)]))).toThrow(/gpadls\[0\]\.offerId/);
		expect(restore({ ...state([channel(1, 5)]), state: "idle" })).toThrow(/saved\.channels/);
		expect(restore(null)).toThrow(/^saved/);
	});
});
