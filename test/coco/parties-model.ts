/**
 * What parties get of RAM and what conversions do to it, byte by byte and from the platform's record alone: no line of
 * src/coco but the table and the names of types.
 */
import { createCipheriv, createDecipheriv, createHash } from "node:crypto";
import type { Platform } from "../../src/coco/platform/platform.ts";
import type { AccessResult, Violation, ViolationName } from "../../src/coco/platform/violations.ts";
import { PageState } from "../../src/memory/ram.ts";
import type { StatusName } from "../../src/status.ts";

export const STRETCHES = [
	{ gpa: 0, bytes: 0x8000 },
	{ gpa: 0x10000, bytes: 0x4000 },
];
const TOP = 0x14000;
const OUTSIDE = -1;
const { Shared, Private, Hidden, InTransition, Leaked } = PageState;

export type Who = "guest" | "paravisor" | "host" | "device";
export interface Access {
	readonly kind: "read" | "write";
	readonly who: Who;
	readonly t: 0 | 1;
	/** Which address a device uses, if its addresses are encoded. */
	readonly form: "private" | "shared";
	readonly encoded: boolean;
	readonly gpa: number;
	readonly bytes: number;
	readonly fill: number;
}
export interface ConvertCall {
	readonly gpa: number;
	readonly bytes: number;
	readonly to: PageState;
	readonly zero: boolean;
	/** Window in which onTransition throws, if there is one of that number. */
	readonly throwAt: number;
}
/** What becomes of a conversion that is not refused. */
export interface Course {
	readonly from: PageState;
	readonly windows: readonly string[];
	readonly end: "ok" | "fails" | "throws";
}
type Fate = { what: ViolationName; result: AccessResult } | null;

/** The data of a write. */
export const dataOf = ({ bytes, fill }: Access) => Uint8Array.from({ length: bytes }, (_, i) => fill + i * 5);

/** A key's view of one page. */
export type Crypt = (how: "encrypt" | "decrypt", page: number, data: Uint8Array) => Uint8Array;

/** AES-256-XTS as the documents describe it, a page as its data unit. */
export function aesPages(seed: number): Crypt {
	const key = createHash("sha512").update(`coco-dma memory key ${seed}`).digest();
	return (how, page, data) => {
		const tweak = Buffer.alloc(16);
		tweak.writeUInt32LE(page, 0);
		return (how === "encrypt" ? createCipheriv : createDecipheriv)("aes-256-xts", key, tweak).update(data);
	};
}

export class Model {
	readonly bytes = new Uint8Array(TOP);
	readonly states: number[];
	readonly violations: Violation[] = [];
	readonly #corrupt = new Set<number>();
	#failures: { step: string; left: number }[] = [];
	conversions = 0;
	fixups = 0;
	unhandled = 0;

	/** crypt: the key's view of one page; ciphertext: whether the host can be shown it */
	constructor(
		readonly platform: Platform,
		readonly keepPresent: boolean,
		readonly ciphertext: boolean,
		readonly crypt: Crypt,
	) {
		const inRam = (gpa: number) => STRETCHES.some((one) => gpa >= one.gpa && gpa < one.gpa + one.bytes);
		this.states = Array.from({ length: TOP / 4096 }, (_, page) => (inRam(page * 4096) ? Private : OUTSIDE));
	}

	#stateAt(gpa: number): number {
		return this.states[Math.floor(gpa / 4096)] ?? OUTSIDE;
	}

	/** The address that a party uses for gpa. */
	address({ who, form, encoded, gpa }: Access): number {
		const { dmaBit } = this.platform;
		return who === "device" && encoded && dmaBit !== null && form === dmaBit.means ? gpa + 2 ** dmaBit.bit : gpa;
	}

	#fate(access: Access, state: number): Fate {
		const { hostRead, hostWrite, dmaBit } = this.platform;
		const stopped = access.kind === "read" ? "fault" : "refused";
		if (state === OUTSIDE) return { what: "outside-ram", result: stopped };
		if (state === InTransition) return { what: "in-transition-page", result: stopped };
		if (state === Leaked) return { what: "leaked-page", result: stopped };
		if (access.who === "guest" || access.who === "paravisor") return null;
		if (state === Hidden) return { what: "hidden-page", result: stopped };
		const keyless = access.kind === "read" ? hostRead : hostWrite;
		const stranger = (what: ViolationName): Fate => (keyless === "plain" ? null : { what, result: keyless });
		const form = access.who === "device" && access.encoded && dmaBit !== null ? access.form : null;
		if (state === Private) {
			if (access.who === "host" || access.t === 0) return stranger("private-page");
			return form === "shared" ? stranger("wrong-encoding") : null;
		}
		if (form !== "private") return null;
		const garbage = access.kind === "read" && hostRead === "ciphertext";
		return { what: "wrong-encoding", result: garbage ? "garbage" : stopped };
	}

	/** What an access comes to: bytes, the violation that stopped it, or the lack of a cipher. */
	access(access: Access): Uint8Array | Violation | "no cipher" {
		const { who, kind, gpa, bytes } = access;
		const out = new Uint8Array(bytes);
		const data = dataOf(access);
		const record = (from: number, n: number, fate: NonNullable<Fate>): Violation => {
			const address = this.address(access) + from - gpa;
			const name = who === "device" ? ("device 5" as const) : who;
			const device = who === "device" ? 5 : null;
			const violation = { who: name, device, access: kind, ...fate, gpa: from, bytes: n, address };
			this.violations.push(violation);
			return violation;
		};
		for (let from = gpa; from < gpa + bytes; ) {
			const state = this.#stateAt(from);
			let end = from + 1;
			while (end < gpa + bytes && (state === OUTSIDE || this.#stateAt(end) === state)) end++;
			const fate = this.#fate(access, state);
			const first = fate === null && state === Private ? this.#meets(access, from, end) : -1;
			const stop = first < 0 ? end : first;
			if (fate !== null) {
				const violation = record(from, end - from, fate);
				if (fate.result === "fault" || fate.result === "refused") return violation;
				if (fate.result === "ciphertext" && !this.ciphertext) return "no cipher";
			}
			for (let at = from; at < stop; at++) {
				if (kind === "read") out[at - gpa] = this.#seen(at, fate);
				else if (fate?.result === "corruption") this.#corrupt.add(at >> 6);
				else this.bytes[at] = data[at - gpa] as number;
			}
			// a line that is written whole is as new
			if (kind === "write" && fate === null)
				for (let line = (from + 63) >> 6; (line + 1) << 6 <= stop; line++) this.#corrupt.delete(line);
			if (first >= 0)
				return record(first, end - first, { what: "corrupted-line", result: kind === "read" ? "fault" : "refused" });
			from = end;
		}
		return out;
	}

	/** Where a holder of the key meets a corrupted line that it reads, or writes only in part; or -1. */
	#meets({ kind }: Access, from: number, end: number): number {
		for (let at = from; at < end; at++) {
			const line = at >> 6;
			const whole = line << 6 >= from && (line + 1) << 6 <= end;
			if (this.#corrupt.has(line) && (kind === "read" || !whole)) return at;
		}
		return -1;
	}

	#seen(at: number, fate: Fate): number {
		if (fate === null) return this.bytes[at] as number;
		if (fate.result === "zeros") return 0;
		const block = Math.floor(at / 16) * 16;
		const page = new Uint8Array(4096);
		page.set(this.bytes.subarray(block, block + 16), block % 4096);
		return this.crypt(fate.result === "garbage" ? "decrypt" : "encrypt", at >> 12, page)[at % 4096] as number;
	}

	#steps(from: number, to: number): string[] {
		const { toPrivate, toShared } = this.platform.conversion.steps;
		const names = (to === Private ? toPrivate : toShared).map(({ step }) => step as string);
		if (from !== Private && to !== Private) return names.filter((name) => name === "host");
		return this.keepPresent ? names.filter((name) => name !== "map" && name !== "unmap") : names;
	}

	/** A failure to come. @returns whether the platform has the step */
	failAt(step: string, nth: number): boolean {
		const known = [...this.#steps(Private, Shared), ...this.#steps(Shared, Private)].includes(step);
		if (known) this.#failures.push({ step, left: nth });
		return known;
	}

	#pages({ gpa, bytes }: { gpa: number; bytes: number }): number[] {
		return Array.from({ length: Math.ceil((gpa + bytes) / 4096) - (gpa >> 12) }, (_, i) => (gpa >> 12) + i);
	}

	/** Why a conversion is refused (any of them), or how it goes; then its pages are in transition. */
	begin(call: ConvertCall): StatusName[] | Course {
		const { to, gpa, bytes } = call;
		const states = this.#pages(call).map((page) => this.states[page] ?? OUTSIDE);
		const from = states[0] as PageState;
		const why: StatusName[] = [];
		const asked = to === Private || to === Shared || (to === Hidden && this.platform.hiddenPages);
		const real = this.platform.conversion.steps.toShared.length > 0;
		if (!asked || gpa % 4096 !== 0 || bytes % 4096 !== 0 || (from === to && real)) why.push("BAD_ARGUMENT");
		if (states.includes(OUTSIDE)) why.push("OUTSIDE_RAM");
		if (states.includes(InTransition) || states.includes(Leaked)) why.push("BLOCKED_PAGES");
		if (states.some((state) => state !== from)) why.push("MIXED_PAGES");
		if (why.length > 0) return why;
		for (const page of this.#pages(call)) this.states[page] = InTransition;
		const windows: string[] = [];
		for (const step of this.#steps(from, to)) {
			windows.push(step);
			if (windows.length - 1 === call.throwAt) return { from, windows, end: "throws" };
			for (const failure of this.#failures) if (failure.step === step) failure.left--;
			const due = this.#failures.filter(({ left }) => left === 0).length;
			this.#failures = this.#failures.filter(({ left }) => left > 0);
			if (due > 0) return { from, windows, end: "fails" };
		}
		return { from, windows, end: "ok" };
	}

	finish(call: ConvertCall, { from, end }: Course): void {
		const { toShared, toPrivate } = this.platform.conversion;
		if (end === "ok") this.conversions++;
		for (const page of this.#pages(call)) {
			this.states[page] = end === "ok" ? call.to : Leaked;
			if (end !== "ok") continue;
			const at = page * 4096;
			const held = this.bytes.subarray(at, at + 4096);
			const contents = from === Private ? toShared : call.to === Private ? toPrivate : "kept";
			if (call.zero || (from !== call.to && contents === "zeroed")) held.fill(0);
			else if (from !== call.to && contents === "scrambled")
				held.set(this.crypt(from === Private ? "encrypt" : "decrypt", page, held.slice()));
			for (let line = at >> 6; line < (at + 4096) >> 6; line++) this.#corrupt.delete(line);
		}
	}

	/** A read beyond its buffer: why it cannot start, or what becomes of it. */
	stray(
		gpa: number,
		bytes: number,
	): StatusName | { outcome: string; exception: string | null; data: Uint8Array | null } {
		const blocked = (state: number) => state === InTransition || state === Leaked;
		if (this.#stateAt(gpa) === OUTSIDE) return "OUTSIDE_RAM";
		if (blocked(this.#stateAt(gpa))) return "BLOCKED_PAGES";
		const last = this.#stateAt(gpa + bytes - 1);
		const whole = this.bytes.slice(gpa, gpa + bytes);
		if (last !== OUTSIDE && !blocked(last)) return { outcome: "read", exception: null, data: whole };
		const { exception, conversion } = this.platform;
		const notPresent = !this.keepPresent && conversion.steps.toShared.some(({ step }) => step === "unmap");
		if (last !== OUTSIDE && !notPresent) {
			if (exception === null) return { outcome: "read", exception: null, data: whole };
			if (!exception.fixedUp) {
				this.unhandled++;
				return { outcome: "unhandled", exception: exception.name, data: null };
			}
		}
		this.fixups++;
		const padded = whole.map((byte, i) => ((gpa + i) >> 12 === gpa >> 12 ? byte : 0));
		const data = new Uint8Array(bytes);
		data.set(padded);
		const name = last === OUTSIDE || notPresent ? "page fault" : (exception?.name ?? "");
		return { outcome: "zero-padded", exception: name, data };
	}
}
