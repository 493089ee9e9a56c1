import { describe, expect, it } from "vitest";
import type { Rejection } from "../../src/vmbus/server/actions.ts";
import { VmbusServer } from "../../src/vmbus/server/server.ts";
import { type Message, MessageType } from "../../src/vmbus/wire/messages.ts";
import { Version } from "../../src/vmbus/wire/versions.ts";
import { device, gpadlHeader, openChannel, TestGuest, types } from "./server-guest.ts";

const GPADL = 0xe1e10;
const M = MessageType;
const close = (relid: number): Message => ({ type: M.CloseChannel, relid });
const released = (relid: number): Message => ({ type: M.RelidReleased, relid });
const modify = (relid: number, targetVp = 3): Message => ({ type: M.ModifyChannel, relid, targetVp });
const teardown = (relid: number, gpadl = GPADL): Message => ({ type: M.GpadlTeardown, relid, gpadl });
const openReserved = (relid: number): Message => ({
	type: M.OpenReservedChannel,
	relid,
	targetVp: 1,
	sint: 5,
	ringGpadl: GPADL,
	downstreamPage: 2,
});
const closeReserved = (relid: number): Message => ({ type: M.CloseReservedChannel, relid, targetVp: 2, sint: 6 });

/** A guest whose only channel, relid 1 with an accepted ring GPADL, is in a state; completions are due, not done. */
function channelIn(state: string, version: number = Version.V6_0): TestGuest {
	const guest = new TestGuest();
	guest.offer(device(1));
	if (state === "ClientReleased") {
		guest.contact(version);
		return guest;
	}
	guest.connect(version);
	guest.gpadl(1, GPADL, 4);
	guest.eager = false;
	if (state === "Closed") return guest;
	if (state === "Revoked" || state === "Reoffered") {
		guest.server.revoke(1);
		if (state === "Reoffered") guest.offer(device(1));
		return guest;
	}
	guest.open(1, GPADL);
	if (state === "Opening") return guest;
	guest.complete("open");
	if (state === "Open") return guest;
	guest.post(close(1));
	if (state === "Closing") return guest;
	guest.open(1, GPADL);
	return guest;
}

type Row = readonly [
	state: string,
	message: Message,
	after: string,
	sent: readonly number[],
	outcome: Rejection | string,
];
const nothing: readonly number[] = [];
const OPEN = openChannel(1, GPADL);
const HEADER = gpadlHeader(1, 0x77, 2);
const ROWS: readonly Row[] = [
	["ClientReleased", OPEN, "ClientReleased", nothing, "unknown-relid"],
	["Closed", OPEN, "Opening", nothing, "open"],
	["Opening", OPEN, "Opening", nothing, "already-open"],
	["Open", OPEN, "Open", nothing, "already-open"],
	["Closing", OPEN, "ClosingReopen", nothing, ""],
	["ClosingReopen", OPEN, "ClosingReopen", nothing, "already-open"],
	["Revoked", OPEN, "Revoked", nothing, ""],
	["Reoffered", OPEN, "Reoffered", nothing, ""],

	["ClientReleased", close(1), "ClientReleased", nothing, "unknown-relid"],
	["Closed", close(1), "Closed", nothing, "not-open"],
	["Opening", close(1), "Opening", nothing, "not-open"],
	["Open", close(1), "Closing", nothing, "close"],
	["Closing", close(1), "Closing", nothing, "not-open"],
	["ClosingReopen", close(1), "ClosingReopen", nothing, "not-open"],
	["Revoked", close(1), "Revoked", nothing, ""],
	["Reoffered", close(1), "Reoffered", nothing, ""],

	["ClientReleased", released(1), "ClientReleased", nothing, "unknown-relid"],
	["Closed", released(1), "ClientReleased", nothing, "gpadlTeardown"],
	["Opening", released(1), "Opening", nothing, "invalid-channel-state"],
	["Open", released(1), "Open", nothing, "invalid-channel-state"],
	["Closing", released(1), "ClosingClientRelease", nothing, "gpadlTeardown"],
	["ClosingReopen", released(1), "ClosingReopen", nothing, "invalid-channel-state"],
	["Revoked", released(1), "gone", nothing, ""],
	["Reoffered", released(1), "Closed", [M.OfferChannel], ""],

	["ClientReleased", modify(1), "ClientReleased", [M.ModifyChannelResponse], "unknown-relid"],
	["Closed", modify(1), "Closed", [M.ModifyChannelResponse], "invalid-channel-state"],
	["Opening", modify(1), "Opening", [M.ModifyChannelResponse], "invalid-channel-state"],
	["Open", modify(1), "Open", nothing, "modify"],
	["Open", modify(1, 0xffffffff), "Open", [M.ModifyChannelResponse], "invalid-channel-state"],
	["Closing", modify(1), "Closing", [M.ModifyChannelResponse], "invalid-channel-state"],
	["ClosingReopen", modify(1), "ClosingReopen", [M.ModifyChannelResponse], "invalid-channel-state"],
	["Revoked", modify(1), "Revoked", [M.ModifyChannelResponse], "invalid-channel-state"],
	["Reoffered", modify(1), "Reoffered", [M.ModifyChannelResponse], "invalid-channel-state"],

	["ClientReleased", HEADER, "ClientReleased", [M.GpadlCreated], "unknown-relid"],
	["Closed", HEADER, "Closed", nothing, "gpadl"],
	["Opening", HEADER, "Opening", nothing, "gpadl"],
	["Open", HEADER, "Open", nothing, "gpadl"],
	["Closing", HEADER, "Closing", nothing, "gpadl"],
	["ClosingReopen", HEADER, "ClosingReopen", nothing, "gpadl"],
	["Revoked", HEADER, "Revoked", [M.GpadlCreated], ""],
	["Reoffered", HEADER, "Reoffered", [M.GpadlCreated], ""],

	["ClientReleased", teardown(1), "ClientReleased", nothing, "unknown-relid"],
	["Closed", teardown(1), "Closed", nothing, "gpadlTeardown"],
	["Open", teardown(1), "Open", nothing, "gpadlTeardown"],
	["Closing", teardown(1), "Closing", nothing, "gpadlTeardown"],
	["Revoked", teardown(1), "Revoked", [M.GpadlTorndown], ""],
	["Reoffered", teardown(1), "Reoffered", [M.GpadlTorndown], ""],
	["Open", teardown(1, 0x55), "Open", nothing, "unknown-gpadl"],
	["Revoked", teardown(1, 0x55), "Revoked", nothing, "unknown-gpadl"],

	["ClientReleased", openReserved(1), "ClientReleased", nothing, "unknown-relid"],
	["Closed", openReserved(1), "Opening", nothing, "open"],
	["Opening", openReserved(1), "Opening", nothing, "already-open"],
	["Open", openReserved(1), "Open", nothing, "already-open"],
	["Closing", openReserved(1), "Closing", nothing, "invalid-channel-state"],
	["ClosingReopen", openReserved(1), "ClosingReopen", nothing, "invalid-channel-state"],
	["Revoked", openReserved(1), "Revoked", nothing, ""],
	["Reoffered", openReserved(1), "Reoffered", nothing, ""],

	["ClientReleased", closeReserved(1), "ClientReleased", nothing, "unknown-relid"],
	["Closed", closeReserved(1), "Closed", nothing, "not-open"],
	["Opening", closeReserved(1), "Opening", nothing, "not-open"],
	["Open", closeReserved(1), "Open", nothing, "channel-not-reserved"],
	["Closing", closeReserved(1), "Closing", nothing, "not-open"],
	["Revoked", closeReserved(1), "Revoked", nothing, ""],
	["Reoffered", closeReserved(1), "Reoffered", nothing, ""],
];
const nameOf = (type: number) => Object.entries(M).find(([, value]) => value === type)?.[0];

describe("a channel of the server", () => {
	for (const [state, message, after, sent, outcome] of ROWS) {
		const title = `${state}, on ${nameOf(message.type)}: ${after}${outcome === "" ? "" : `, ${outcome}`}`;
		it(`${title}${sent.length === 0 ? "" : `, sends ${sent.map(nameOf)}`}`, () => {
			const guest = channelIn(state);
			const step = guest.post(message);
			expect(step.status).toBe(0);
			expect(guest.state(1)).toBe(after);
			expect(types(step)).toEqual(sent);
			const others = step.actions.filter(({ type }) => type !== "send");
			const what = others.map((action) => (action.type === "rejected" ? action.reason : action.type));
			expect(what).toEqual(outcome === "" ? [] : [outcome]);
		});
	}

	it("closes, or reopens, when the device has closed", () => {
		const guest = channelIn("Closing");
		guest.complete("close");
		expect(guest.state(1)).toBe("Closed");
		const again = channelIn("ClosingReopen");
		const step = again.complete("close");
		expect(again.state(1)).toBe("Opening");
		expect(step.actions.map(({ type }) => type)).toEqual(["open"]);
		expect(again.complete("open").sent).toEqual([{ type: M.OpenChannelResult, relid: 1, openId: 1, status: 0 }]);
	});

	it("is closed again when the device does not open", () => {
		const guest = channelIn("Opening");
		const step = guest.complete("open", 0xc0000001);
		expect(step.sent).toEqual([{ type: M.OpenChannelResult, relid: 1, openId: 1, status: 0xc0000001 }]);
		expect(guest.state(1)).toBe("Closed");
	});

	it("ends at its device when the guest unloads while it opens, opened or not", () => {
		for (const [status, next] of [
			[0, "ClosingClientRelease"],
			[5, "ClientReleased"],
		] as const) {
			const guest = channelIn("Opening");
			guest.post({ type: M.Unload });
			expect(guest.state(1)).toBe("OpeningClientRelease");
			const step = guest.complete("open", status);
			expect(step.sent).toEqual([]);
			expect(guest.state(1)).toBe(next);
			if (status === 0) guest.complete("close");
			expect(types(guest.complete("gpadlTeardown"))).toEqual([M.UnloadResponse]);
		}
	});

	it("sends a rescind once, from every state that the guest knows, and deletes what the guest does not hold", () => {
		for (const state of ["Closed", "Opening", "Open", "Closing", "ClosingReopen"]) {
			const guest = channelIn(state);
			expect(guest.step(guest.server.revoke(1)).sent).toEqual([{ type: M.RescindChannelOffer, relid: 1 }]);
			expect(guest.state(1)).toBe("Revoked");
			expect(guest.server.revoke(1)).toEqual([]);
			// what the device still owed no longer counts
			for (const { type } of guest.due.filter((action) => action.type === "open" || action.type === "close"))
				expect(guest.complete(type as "open").rejected).toEqual(["unexpected-completion"]);
			guest.post(released(1));
			expect(guest.state(1)).toBe("gone");
		}
		const reoffered = channelIn("Reoffered");
		expect(reoffered.server.revoke(1)).toEqual([]);
		expect(reoffered.state(1)).toBe("Revoked");
		const unknown = channelIn("ClientReleased");
		expect(unknown.server.revoke(1)).toEqual([]);
		expect(unknown.state(1)).toBe("gone");
	});

	it("answers what waits for its device when it is revoked, and keeps accepted GPADLs for the guest to tear down", () => {
		const guest = channelIn("Open");
		guest.gpadl(1, 0x20, 2);
		guest.post(teardown(1));
		guest.gpadl(1, 0x30, 2);
		guest.eager = true;
		const step = guest.step(guest.server.revoke(1));
		expect(step.sent).toEqual([
			{ type: M.GpadlTorndown, gpadl: GPADL },
			{ type: M.GpadlCreated, relid: 1, gpadl: 0x20, status: 0x8000ffff },
			{ type: M.GpadlCreated, relid: 1, gpadl: 0x30, status: 0x8000ffff },
			{ type: M.RescindChannelOffer, relid: 1 },
		]);
		const kept = channelIn("Open");
		kept.server.revoke(1);
		expect(kept.post(teardown(1)).sent).toEqual([{ type: M.GpadlTorndown, gpadl: GPADL }]);
	});

	it("keeps the relid of a channel that is offered again before its release, and else gives the lowest free one", () => {
		const guest = new TestGuest();
		for (const n of [1, 2, 3]) guest.offer(device(n));
		guest.connect();
		guest.server.revoke(2);
		expect(guest.server.offer(device(2))).toEqual({ offerId: 2, actions: [] });
		expect(guest.post(released(2)).sent).toMatchObject([{ type: M.OfferChannel, relid: 2 }]);
		guest.server.revoke(1);
		guest.post(released(1));
		guest.server.revoke(3);
		guest.post(released(3));
		const offered = guest.server.offer(device(9));
		expect(guest.step(typeof offered === "string" ? [] : offered.actions).sent).toMatchObject([
			{ relid: 1, connectionId: 0x2001 },
		]);
	});

	it("cannot be offered again under another relid while the guest holds the first", () => {
		const guest = channelIn("Revoked");
		expect(guest.server.offer(device(1, { relid: 5 }))).toBe("relid-taken");
		expect(guest.server.offer(device(1, { relid: 1 }))).toEqual({ offerId: 1, actions: [] });
	});

	it("rescinds sub-channels before their primary, and tells their devices", () => {
		const guest = new TestGuest();
		const ids = [0, 1, 2].map((subChannelIndex) => guest.offer(device(1, { subChannelIndex })));
		guest.offer(device(2, { subChannelIndex: 1 }));
		guest.connect();
		const step = guest.step(guest.server.revoke(ids[0] as number));
		const relids = step.sent.map((message) => (message.type === M.RescindChannelOffer ? message.relid : 0));
		expect(relids).toEqual([2, 3, 1]);
		expect(step.actions.filter(({ type }) => type === "revoked")).toEqual([
			{ type: "revoked", offerId: ids[1] },
			{ type: "revoked", offerId: ids[2] },
		]);
		expect(guest.state(4)).toBe("Closed");
	});

	it("moves interrupts once at a time; before 5.3 the last request of those that came meanwhile follows", () => {
		const modern = channelIn("Open", Version.V5_3);
		modern.post(modify(1, 2));
		expect(modern.post(modify(1, 3)).rejected).toEqual(["modify-in-progress"]);
		expect(modern.complete("modify").sent).toEqual([{ type: M.ModifyChannelResponse, relid: 1, status: 0 }]);
		expect(modern.due).toEqual([]);
		const old = channelIn("Open", Version.V5_2);
		old.post(modify(1, 2));
		old.post(modify(1, 3));
		old.post(modify(1, 4));
		const step = old.complete("modify");
		expect(step.sent).toEqual([]);
		expect(step.actions).toEqual([{ type: "modify", offerId: 1, targetVp: 4 }]);
		expect(old.complete("modify").actions).toEqual([]);
		const failed = channelIn("Open", Version.V5_3);
		failed.post(modify(1));
		expect(failed.complete("modify", 0xc0000001).sent).toMatchObject([{ status: 0xc0000001 }]);
		expect(channelIn("Closed", Version.V5_2).post(modify(1)).sent).toEqual([]);
		expect(channelIn("Open", Version.V4_0).post(modify(1)).rejected).toEqual(["malformed"]);
	});

	it("answers a request to move interrupts when the channel is closed before the device has", () => {
		const guest = channelIn("Open");
		guest.post(modify(1));
		expect(guest.post(close(1)).sent).toEqual([{ type: M.ModifyChannelResponse, relid: 1, status: 0x8000ffff }]);
		expect(guest.complete("modify").rejected).toEqual(["unexpected-completion"]);
	});

	it("does not move the interrupts of a channel that wants none", () => {
		const guest = channelIn("Closed");
		guest.eager = true;
		guest.open(1, GPADL, { targetVp: 0xffffffff });
		expect(guest.post(modify(1)).sent).toMatchObject([{ type: M.ModifyChannelResponse, status: 0x8000ffff }]);
	});

	it("reserves a channel for a target that outlives the connection", () => {
		const guest = channelIn("Closed");
		guest.eager = true;
		const step = guest.post(openReserved(1));
		expect(step.actions.at(-1)).toMatchObject({ type: "send", target: { vp: 1, sint: 5 }, queued: false });
		expect(step.sent).toEqual([{ type: M.OpenChannelResult, relid: 1, openId: 0, status: 0 }]);
		expect(step.actions[0]).toMatchObject({ type: "open", reserved: true, request: { targetVp: 0xffffffff } });
		expect(guest.post(close(1)).rejected).toEqual(["channel-reserved"]);
		expect(guest.post(released(1)).rejected).toEqual(["invalid-channel-state"]);
		expect(guest.post(teardown(1)).rejected).toEqual(["channel-reserved"]);
		expect(guest.gpadl(1, 5, 1).sent).toMatchObject([{ type: M.GpadlCreated, status: 0x8000ffff }]);
		expect(types(guest.post({ type: M.Unload }))).toEqual([M.UnloadResponse]);
		expect(guest.state(1)).toBe("Open");
		// legal without a connection
		const closed = guest.post(closeReserved(1));
		expect(closed.sent).toEqual([{ type: M.CloseReservedResponse, relid: 1 }]);
		expect(closed.actions.find(({ type }) => type === "send")).toMatchObject({ target: { vp: 2, sint: 6 } });
		expect(guest.state(1)).toBe("ClientReleased");
		expect(guest.server.gpadls(1)).toEqual([]);
		expect(types(guest.connect())).toEqual([M.OfferChannel, M.AllOffersDelivered]);
	});

	it("opens again after a reserved close, and tells the closer first", () => {
		const guest = channelIn("Closed");
		guest.post(openReserved(1));
		guest.complete("open");
		guest.post(closeReserved(1));
		expect(guest.open(1, GPADL).rejected).toEqual([]);
		expect(guest.state(1)).toBe("ClosingReopen");
		const restored = VmbusServer.restore({}, JSON.parse(JSON.stringify(guest.server.save())));
		expect(restored.save()).toEqual(guest.server.save());
		const step = guest.complete("close");
		expect(step.actions).toMatchObject([
			{ type: "send", target: { vp: 2, sint: 6 }, queued: false },
			{ type: "open", reserved: false },
		]);
		expect(step.sent).toEqual([{ type: M.CloseReservedResponse, relid: 1 }]);
		expect(guest.complete("open").sent).toMatchObject([{ type: M.OpenChannelResult, openId: 1, status: 0 }]);
		expect(guest.post(close(1)).rejected).toEqual([]);
	});

	it("forgets that it was to be opened again when the guest unloads, but not who closed it", () => {
		const guest = channelIn("Closed");
		guest.post(openReserved(1));
		guest.complete("open");
		guest.post(closeReserved(1));
		guest.open(1, GPADL);
		expect(types(guest.post({ type: M.Unload }))).toEqual([M.UnloadResponse]);
		expect(guest.state(1)).toBe("Closing");
		const step = guest.complete("close");
		expect(step.actions[0]).toMatchObject({ type: "send", target: { vp: 2, sint: 6 } });
		expect(step.sent).toEqual([{ type: M.CloseReservedResponse, relid: 1 }]);
		expect(guest.state(1)).toBe("ClientReleased");
		// another connection's guest has no such channel to open
		const next = channelIn("Closed");
		next.post(openReserved(1));
		next.complete("open");
		next.post({ type: M.Unload });
		next.post(closeReserved(1));
		next.connect();
		expect(next.open(1, GPADL).rejected).toEqual(["already-open"]);
	});

	it("answers what waits for a channel that is not the guest's, in the versions that have the answer", () => {
		const old = channelIn("Closed", Version.V5_2);
		for (const relid of [0, 2, 2048, 0xffffffff]) {
			const header = { ...gpadlHeader(1, 0x77, 2), relid };
			expect(old.post(header as Message).sent).toEqual([
				{ type: M.GpadlCreated, relid, gpadl: 0x77, status: 0x8000ffff },
			]);
			expect(old.post(modify(relid)).sent).toEqual([]);
			for (const silent of [openChannel(relid, GPADL), close(relid), released(relid), teardown(relid)])
				expect(old.post(silent)).toMatchObject({ sent: [], rejected: ["unknown-relid"] });
		}
		const modern = channelIn("Closed", Version.V5_3);
		expect(modern.post(modify(2)).sent).toEqual([{ type: M.ModifyChannelResponse, relid: 2, status: 0x8000ffff }]);
	});

	it("is taken back without a word when only a reservation of an old connection holds it", () => {
		const guest = channelIn("Closed");
		guest.eager = true;
		guest.post(openReserved(1));
		guest.connect();
		expect(guest.server.revoke(1)).toEqual([]);
		expect(guest.state(1)).toBe("gone");
	});

	it("does not offer a reserved channel to the next connection before it is closed, and a reset of the VM ends it", () => {
		const guest = channelIn("Closed");
		guest.eager = true;
		guest.post(openReserved(1));
		expect(types(guest.connect())).toEqual([M.AllOffersDelivered]);
		expect(types(guest.post(closeReserved(1)))).toEqual([M.CloseReservedResponse]);
		expect(types(guest.connect())).toEqual([M.OfferChannel, M.AllOffersDelivered]);
		guest.post(openReserved(1));
		guest.connect();
		expect(guest.step(guest.server.reset()).actions.map(({ type }) => type)).toContain("resetDone");
		expect(guest.state(1)).toBe("ClientReleased");
		expect(guest.server.connection.name).toBe("Disconnected");
	});
});
