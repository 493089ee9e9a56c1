import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Connections } from "../../src/synic/connections.ts";
import {
	CallCode,
	controlWord,
	decodePost,
	encodePost,
	encodeSignal,
	parseControl,
} from "../../src/synic/hypercall.ts";
import type { CallPath } from "../../src/synic/modes.ts";
import { PostRetry, postWithRetry } from "../../src/synic/retry.ts";
import { HvStatus, hvStatusName } from "../../src/synic/status.ts";
import { printSeed, SEED } from "../helpers/random.ts";
import { PLATFORMS, testGuest } from "./synic-machine.ts";

printSeed("synic hypercalls");
const BARE = PLATFORMS.bare as (typeof PLATFORMS)[string];
const SNP = PLATFORMS["SNP without paravisor"] as (typeof PLATFORMS)[string];
const POST = controlWord(CallCode.PostMessage, false);
const INPUT_GPA = 0x300000;
const caller = { vp: 0, vtl: 0, trusted: false };

describe("the input of a hypercall", () => {
	it("has the layout of the specification", () => {
		const input = Buffer.from(encodePost({ connectionId: 0x800074, type: 1, payload: Uint8Array.of(0xaa, 0xbb) }));
		expect(input.toString("hex")).toBe(`74008000000000000100000002000000${"aabb".padEnd(480, "0")}`);
		expect(encodeSignal({ connectionId: 0x2001, flag: 3 })).toBe(0x3_0000_2001n);
		expect(controlWord(CallCode.SignalEvent, true)).toBe(0x1005dn);
		expect(() => encodePost({ connectionId: 1, type: 1, payload: new Uint8Array(241) })).toThrow(RangeError);
	});

	it("is refused when the control word asks for what these calls do not have", () => {
		expect(parseControl(0x5cn)).toEqual({ code: 0x5c, fast: false });
		expect(parseControl(0x1005dn)).toEqual({ code: 0x5d, fast: true });
		expect(parseControl(0x5bn)).toBe(HvStatus.INVALID_HYPERCALL_CODE);
		expect(parseControl(0x1005cn)).toBe(HvStatus.INVALID_HYPERCALL_INPUT);
		for (const bit of [17n, 26n, 27n, 31n, 32n, 43n, 44n, 48n, 59n, 60n, 63n])
			expect(parseControl(0x5dn | (1n << bit)), `bit ${bit}`).toBe(HvStatus.INVALID_HYPERCALL_INPUT);
	});

	it("is refused when the message is none", () => {
		const input = encodePost({ connectionId: 1, type: 1, payload: new Uint8Array(240) });
		const change = (at: number, value: number) => {
			const copy = input.slice();
			new DataView(copy.buffer).setUint32(at, value, true);
			return decodePost(copy);
		};
		expect(change(12, 241)).toBe(HvStatus.INVALID_PARAMETER);
		expect(change(12, 0xffffffff)).toBe(HvStatus.INVALID_PARAMETER);
		expect(change(8, 0)).toBe(HvStatus.INVALID_PARAMETER);
		expect(change(8, 0x80000000)).toBe(HvStatus.INVALID_PARAMETER);
		expect(change(12, 0)).toMatchObject({ payload: new Uint8Array(0) });
	});
});

describe("a hypercall", () => {
	async function world(platform = BARE) {
		const test = await testGuest(platform);
		const got: (Uint8Array | number)[] = [];
		test.machine.connections.hypervisor.bindMessages(1, {
			post: (_, payload) => {
				got.push(payload);
				return HvStatus.SUCCESS;
			},
		});
		test.machine.connections.hypervisor.bindEvents(2, { flags: 4, signal: (flag) => got.push(flag) });
		const call = (control: bigint, input: bigint | Uint8Array, vp = 0, path: CallPath = "direct") =>
			Number(test.machine.hypercall({ vp, path, control, input }));
		return { ...test, got, call };
	}
	const message = encodePost({ connectionId: 1, type: 1, payload: Uint8Array.of(7) });

	it("reads its input where the guest says, aligned and within a page, in memory that the hypervisor sees", async () => {
		const { engine, call, got } = await world(SNP);
		engine.ram.write(INPUT_GPA, message);
		expect(call(POST, BigInt(INPUT_GPA))).toBe(HvStatus.ACCESS_DENIED);
		engine.ram.convert(INPUT_GPA, 8192, 0);
		expect(call(POST, BigInt(INPUT_GPA))).toBe(HvStatus.SUCCESS);
		for (const gpa of [INPUT_GPA + 4, INPUT_GPA + 4096 - 248])
			expect(call(POST, BigInt(gpa))).toBe(HvStatus.INVALID_ALIGNMENT);
		expect(call(POST, BigInt(INPUT_GPA + 4096 - 256))).toBe(HvStatus.INVALID_PARAMETER);
		for (const gpa of [0x400000n, 2n ** 52n, 2n ** 64n - 4096n]) expect(call(POST, gpa)).toBe(HvStatus.ACCESS_DENIED);
		expect(got).toEqual([Uint8Array.of(7)]);
	});

	it("has a copy of the message: what the guest changes then does not matter", async () => {
		const { engine, call, got } = await world();
		engine.ram.write(INPUT_GPA, message);
		call(POST, BigInt(INPUT_GPA));
		engine.ram.fill(INPUT_GPA, 256, 0xff);
		expect(got).toEqual([Uint8Array.of(7)]);
	});

	it("signals in the fast form and from memory, flags of the port only", async () => {
		const { engine, call, got } = await world();
		const fast = controlWord(CallCode.SignalEvent, true);
		expect(call(fast, encodeSignal({ connectionId: 2, flag: 3 }))).toBe(HvStatus.SUCCESS);
		engine.ram.write(INPUT_GPA, Uint8Array.of(2, 0, 0, 0, 1, 0, 0, 0));
		expect(call(controlWord(CallCode.SignalEvent, false), BigInt(INPUT_GPA))).toBe(HvStatus.SUCCESS);
		expect(call(fast, encodeSignal({ connectionId: 2, flag: 4 }))).toBe(HvStatus.INVALID_PARAMETER);
		expect(call(fast, encodeSignal({ connectionId: 1, flag: 0 }))).toBe(HvStatus.INVALID_CONNECTION_ID);
		expect(got).toEqual([3, 1]);
	});

	it("is refused for a connection of the other kind or none, and a processor that is none", async () => {
		const { call, calls } = await world();
		const to = (connectionId: number) => encodePost({ connectionId, type: 1, payload: new Uint8Array(0) });
		for (const id of [2, 3, 0x1000001, 0xffffffff]) expect(call(POST, to(id))).toBe(HvStatus.INVALID_CONNECTION_ID);
		expect(call(POST, to(1), 2)).toBe(HvStatus.INVALID_VP_INDEX);
		expect(call(0x5bn, 0n)).toBe(HvStatus.INVALID_HYPERCALL_CODE);
		expect(call(POST, new Uint8Array(255))).toBe(HvStatus.INVALID_HYPERCALL_INPUT);
		expect(calls.map(({ status }) => hvStatusName(status))).toEqual([
			...Array(4).fill("INVALID_CONNECTION_ID"),
			"INVALID_VP_INDEX",
			"INVALID_HYPERCALL_CODE",
			"INVALID_HYPERCALL_INPUT",
		]);
	});

	it("never throws, whatever the guest passes", async () => {
		const { call } = await world(SNP);
		const word = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.constantFrom(POST, 0x1005dn, 0x5dn));
		const input = fc.oneof(
			fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
			fc.integer({ min: 0, max: 0x500 }).map((page) => BigInt(page * 4096)),
			fc.uint8Array({ minLength: 0, maxLength: 300 }),
		);
		fc.assert(
			fc.property(word, input, fc.integer({ min: -1, max: 3 }), (control, value, vp) => {
				expect(Object.values(HvStatus)).toContain(call(control, value, vp));
			}),
			{ seed: SEED, numRuns: 2000 },
		);
	});
});

describe("a table of connections", () => {
	it("refuses callers below a port's trust level, and ids that are taken or too large", () => {
		const table = new Connections();
		table.bindMessages(0x800074, { minVtl: 2, post: () => HvStatus.SUCCESS });
		const post = (vtl: number) => table.post(0x800074, 1, new Uint8Array(8), { ...caller, vtl });
		expect([post(0), post(1), post(2)]).toEqual([
			HvStatus.OPERATION_DENIED,
			HvStatus.OPERATION_DENIED,
			HvStatus.SUCCESS,
		]);
		expect(() => table.bindEvents(0x800074, { signal: () => {} })).toThrow("is taken");
		expect(() => table.bindEvents(0x1000000, { signal: () => {} })).toThrow("24 bits");
		table.unbind(0x800074);
		expect(post(2)).toBe(HvStatus.INVALID_CONNECTION_ID);
	});
});

describe("Linux's retries", () => {
	const postAll = (statuses: number[], isContact = false, maySleep = true) => {
		const delays: string[] = [];
		const left = [...statuses];
		const retry = new PostRetry(isContact, maySleep);
		const result = postWithRetry(
			() => left.shift() ?? (statuses.at(-1) as number),
			retry,
			(us, sleeps) => delays.push(`${us}${sleeps ? " sleep" : ""}`),
		);
		return { result, delays };
	};

	it("end with the first success", () => {
		expect(postAll([19, 11, 18, 0])).toEqual({ result: null, delays: ["1", "2", "4"] });
		expect(postAll([0])).toEqual({ result: null, delays: [] });
	});

	it.each([2, 3, 4, 5, 6, 8, 14, 17, 24, 25, 120, 134])("are none for status %d", (status) => {
		expect(postAll([status])).toEqual({ result: "EINVAL", delays: [] });
	});

	it("are none for a contact message that the host has no connection for", () => {
		expect(postAll([18], true)).toEqual({ result: "ENXIO", delays: [] });
		expect(postAll([19, 18], true)).toEqual({ result: "ENXIO", delays: ["1"] });
	});

	it("are 100 tries, whose delays double 21 times and take 167.8 s together", () => {
		for (const [status, error] of [
			[18, "EAGAIN"],
			[19, "ENOBUFS"],
			[11, "ENOBUFS"],
		] as const) {
			const { result, delays } = postAll([status]);
			expect(result).toBe(error);
			expect(delays).toHaveLength(100);
			expect(delays.slice(0, 12)).toEqual([..."1 2 4 8 16 32 64 128 256 512".split(" "), "1000 sleep", "2000 sleep"]);
			expect(delays.slice(21)).toEqual(Array(79).fill("2097000 sleep"));
			const seconds = delays.reduce((sum, delay) => sum + Number.parseInt(delay, 10), 0) / 1e6;
			expect(seconds).toBeCloseTo(167.8, 0);
		}
	});

	it("are all busy waits where the guest may not sleep", () => {
		const { delays } = postAll([19], false, false);
		expect(delays[21]).toBe("2097152");
		expect(delays.some((delay) => delay.includes("sleep"))).toBe(false);
	});
});
