import { describe, expect, it } from "vitest";
import { parseGpadl } from "../../src/vmbus/wire/gpadl.ts";
import { MessageType as M, type Message } from "../../src/vmbus/wire/messages.ts";
import { device, gpadlBody, gpadlHeader, type Step, TestGuest } from "./server-guest.ts";

const FAILED = 0x8000ffff;

function connected(channels = 1, maxGpadlPages = 2 ** 22): TestGuest {
	const guest = new TestGuest({ maxGpadlPages });
	for (let n = 1; n <= channels; n++) guest.offer(device(n));
	guest.connect();
	guest.eager = false;
	return guest;
}

const created = (gpadl: number, status: number, relid = 1) => [{ type: M.GpadlCreated, relid, gpadl, status }];
const pfnsOf = (step: Step) =>
	step.actions.flatMap((action) => (action.type === "gpadl" ? action.ranges.flatMap(({ pfns }) => pfns) : []));
const header = (gpadl: number, more: Partial<Extract<Message, { type: 8 }>>, relid = 1): Message => ({
	type: M.GpadlHeader,
	relid,
	gpadl,
	rangeBytes: 16,
	rangeCount: 1,
	ranges: [4096n, 0x100n],
	...more,
});

describe("a GPADL of the server", () => {
	it("goes to the device when its header and bodies are complete, and is created when the device has it", () => {
		const guest = connected();
		expect(guest.gpadl(1, 7, 26 + 28 + 3).actions).toEqual([]);
		expect(guest.post(gpadlBody(7, 0x100 + 26, 28)).actions).toEqual([]);
		const step = guest.post(gpadlBody(7, 0x100 + 54, 3));
		expect(pfnsOf(step)).toEqual(Array.from({ length: 57 }, (_, i) => 0x100 + i));
		expect(guest.complete("gpadl").sent).toEqual(created(7, 0));
		expect(guest.server.gpadls(1)).toMatchObject([{ state: "Accepted" }]);
		expect(guest.post({ type: M.GpadlTeardown, relid: 1, gpadl: 7 }).sent).toEqual([]);
		expect(guest.complete("gpadlTeardown").sent).toEqual([{ type: M.GpadlTorndown, gpadl: 7 }]);
		expect(guest.server.gpadls(1)).toEqual([]);
	});

	it("takes what its header declares and ignores the rest of messages that are always 240 bytes", () => {
		const guest = connected();
		guest.post(gpadlHeader(1, 7, 27));
		const full = Array.from({ length: 28 }, (_, i) => (i === 0 ? 0x200n : 0xffffffffffffffffn));
		const step = guest.post({ type: M.GpadlBody, messageNumber: 9, gpadl: 7, ranges: full });
		expect(pfnsOf(step).slice(25)).toEqual([0x119, 0x200]);
	});

	it("may have several ranges, with offsets, and trailing quadwords that mean nothing", () => {
		const guest = connected();
		const ranges = [0x0000_0800_0000_1000n, 5n, 6n, 100n, 9n, 0xffffn];
		const step = guest.post(header(7, { rangeBytes: 48, rangeCount: 2, ranges }));
		expect(step.actions).toMatchObject([
			{
				ranges: [
					{ bytes: 4096, offset: 2048, pfns: [5, 6] },
					{ bytes: 100, offset: 0, pfns: [9] },
				],
			},
		]);
	});

	it("is refused with an answer when its ranges are invalid", () => {
		const bad: Partial<Extract<Message, { type: 8 }>>[] = [
			{ rangeBytes: 0 },
			{ rangeCount: 0 },
			{ rangeCount: 2 },
			{ ranges: [0n, 0x100n] },
			{ ranges: [4097n, 0x100n] },
			{ ranges: [(4096n << 32n) | 4096n, 0x100n] },
			{ ranges: [4096n, 1n << 40n] },
			{ ranges: [0xffffffffn, 0x100n] },
			// 8191 pages: the u16 has wrapped to 0, as Linux sends it
			{ rangeBytes: 0, ranges: [8191n * 4096n, 1n] },
		];
		for (const more of bad) {
			const guest = connected();
			const step = guest.post(header(7, more));
			expect(step.sent).toEqual(created(7, FAILED));
			expect(step.rejected).toEqual(["invalid-gpadl"]);
			expect(guest.server.gpadls(1)).toEqual([]);
		}
		const guest = connected();
		guest.post(header(7, { rangeBytes: 24 }));
		expect(guest.post({ type: M.GpadlBody, messageNumber: 0, gpadl: 7, ranges: [0n] }).actions).toMatchObject([
			{ type: "gpadl" },
		]);
		const late = connected();
		late.post(header(7, { rangeBytes: 24, ranges: [8192n, 1n] }));
		const step = late.post({ type: M.GpadlBody, messageNumber: 0, gpadl: 7, ranges: [1n << 52n] });
		expect(step.sent).toEqual(created(7, FAILED));
		expect(late.post(gpadlBody(7, 1, 1)).rejected).toEqual(["unknown-gpadl"]);
	});

	it("reads ranges of up to 8190 pages", () => {
		const pfns = Array.from({ length: 8190 }, (_, i) => BigInt(i));
		expect(parseGpadl([8190n * 4096n, ...pfns], 1)?.[0]?.pfns.length).toBe(8190);
		expect(parseGpadl([8190n * 4096n, ...pfns.slice(1)], 1)).toBeNull();
		expect(parseGpadl([], 1)).toBeNull();
		expect(parseGpadl([(4095n << 32n) | 1n, 5n], 1)).toEqual([{ bytes: 1, offset: 4095, pfns: [5] }]);
		expect(parseGpadl([(4096n << 32n) | 1n, 5n, 6n], 1)).toBeNull();
	});

	it("has an id of its own in its channel, and while bodies are to come in the connection", () => {
		const guest = connected(2);
		guest.gpadl(1, 7, 2);
		expect(guest.gpadl(1, 7, 2).sent).toEqual(created(7, FAILED));
		expect(guest.gpadl(2, 7, 2).rejected).toEqual([]);
		guest.gpadl(1, 8, 40);
		expect(guest.gpadl(2, 8, 40).rejected).toEqual(["duplicate-gpadl"]);
		// complete in one message, no body can be mistaken
		expect(guest.gpadl(2, 8, 2).rejected).toEqual([]);
		guest.complete("gpadl");
		expect(guest.post(gpadlBody(8, 0x100 + 26, 14)).actions).toMatchObject([{ type: "gpadl", offerId: 1 }]);
	});

	it("that fails beside one of the same id under way leaves that one alone", () => {
		const guest = connected(2);
		guest.gpadl(1, 8, 40);
		expect(guest.post(header(8, { rangeCount: 0 }, 2)).sent).toEqual(created(8, FAILED, 2));
		expect(guest.post(gpadlBody(8, 0x11a, 14)).actions).toMatchObject([{ type: "gpadl", offerId: 1 }]);
	});

	it("of a body alone is nobody's", () => {
		expect(connected().post(gpadlBody(7, 1, 1)).actions).toMatchObject([{ reason: "unknown-gpadl" }]);
	});

	it("that the device refuses is forgotten, and its id is free again", () => {
		const guest = connected();
		guest.gpadl(1, 7, 2);
		expect(guest.complete("gpadl", 5).sent).toEqual(created(7, 5));
		expect(guest.gpadl(1, 7, 2).rejected).toEqual([]);
	});

	it("cannot be torn down before it is accepted, nor twice", () => {
		const guest = connected();
		const teardown: Message = { type: M.GpadlTeardown, relid: 1, gpadl: 7 };
		guest.gpadl(1, 7, 40);
		expect(guest.post(teardown).rejected).toEqual(["invalid-gpadl-state"]);
		guest.post(gpadlBody(7, 1, 14));
		expect(guest.post(teardown).rejected).toEqual(["invalid-gpadl-state"]);
		guest.complete("gpadl");
		guest.post(teardown);
		expect(guest.post(teardown).rejected).toEqual(["invalid-gpadl-state"]);
		expect(guest.server.complete({ type: "gpadl", offerId: 1, gpadl: 7, status: 0 })).toMatchObject([
			{ reason: "unexpected-completion" },
		]);
		guest.complete("gpadlTeardown");
		expect(guest.post(teardown).rejected).toEqual(["unknown-gpadl"]);
		for (const type of ["gpadl", "gpadlTeardown"] as const)
			expect(guest.server.complete({ type, offerId: 1, gpadl: 7, status: 0 })).toMatchObject([
				{ reason: "unexpected-completion" },
			]);
	});

	it("that the guest abandons is torn down as soon as the device has taken it, in silence", () => {
		const guest = connected();
		guest.gpadl(1, 7, 2);
		guest.gpadl(1, 8, 2);
		guest.post({ type: M.RelidReleased, relid: 1 });
		expect(guest.server.gpadls(1).map(({ state }) => state)).toEqual(["OfferedTearingDown", "OfferedTearingDown"]);
		expect(guest.complete("gpadl").actions).toMatchObject([{ type: "gpadlTeardown", gpadl: 7 }]);
		expect(guest.complete("gpadl", 1).actions).toEqual([]);
		expect(guest.complete("gpadlTeardown").actions).toEqual([]);
		expect(guest.server.gpadls(1)).toEqual([]);
	});

	it("under way is forgotten when its channel is released or the connection ends", () => {
		for (const message of [{ type: M.RelidReleased, relid: 1 }, { type: M.Unload }] as Message[]) {
			const guest = connected();
			guest.gpadl(1, 7, 40);
			guest.post(message);
			expect(guest.server.gpadls(1)).toEqual([]);
			guest.connect();
			expect(guest.post(gpadlBody(7, 1, 14)).rejected).toEqual(["unknown-gpadl"]);
		}
	});

	it("on a rescinded channel is created at once, also when its bodies end after the rescind", () => {
		const guest = connected();
		guest.gpadl(1, 7, 40);
		guest.server.revoke(1);
		expect(guest.post(gpadlBody(7, 1, 14)).sent).toEqual(created(7, 0));
		expect(guest.gpadl(1, 9, 1).sent).toEqual(created(9, 0));
		expect(guest.post({ type: M.GpadlTeardown, relid: 1, gpadl: 9 }).sent).toEqual([
			{ type: M.GpadlTorndown, gpadl: 9 },
		]);
		guest.post({ type: M.RelidReleased, relid: 1 });
		expect(guest.state(1)).toBe("gone");
	});

	it("counts against a limit, from its header on", () => {
		const guest = connected(1, 100);
		guest.gpadl(1, 1, 60);
		expect(guest.gpadl(1, 2, 39).rejected).toEqual(["too-many-pages"]);
		expect(guest.gpadl(1, 3, 26).rejected).toEqual([]);
		guest.post({ type: M.Unload });
		guest.complete("gpadl");
		guest.complete("gpadlTeardown");
		guest.connect();
		expect(guest.gpadl(1, 2, 99).rejected).toEqual([]);
	});
});
