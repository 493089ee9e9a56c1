/** Two guests of the audit build that differ in their secrets alone: what differs between them is what somebody can learn. */
import { expect } from "vitest";
import { MUTATE_LABELS } from "../../assembly/layout/audit.ts";
import { Guest, type GuestOptions } from "../../src/coco/guest/guest.ts";
import type { MemoryCipher } from "../../src/coco/platform/ciphertext.ts";
import { AccessFault } from "../../src/coco/platform/violations.ts";
import { PageState } from "../../src/memory/ram.ts";
import { Random } from "./random.ts";

/** What tells a secret byte of the second guest from the first one's. */
const SECRET = 0xa5;
const PAGE = 4096;
/** A page of nothing. */
const NONE = new Uint8Array(PAGE);
const NOISE = new Random(77).bytes(PAGE);

/** Noise that depends on nothing: what a perfect cipher looks like from outside, and what a conversion leaves. */
const opaque: MemoryCipher = {
	isAes: true,
	encrypt: (_gpa, data) => noise(data),
	decrypt: (_gpa, data) => noise(data),
};

function noise({ length }: Uint8Array): Uint8Array {
	const out = new Uint8Array(length);
	for (let at = 0; at < length; at += PAGE) out.set(NOISE.subarray(0, Math.min(PAGE, length - at)), at);
	return out;
}

/** Stretches: two that adjoin in the guest and not in memory, and one above 4 GiB. */
const STRETCHES = [
	{ gpa: 0, bytes: 2 ** 20 },
	{ gpa: 2 ** 20, bytes: 2 ** 20 },
	{ gpa: 2 ** 32, bytes: 2 ** 21 },
];
/** A buffer across the first two, which the page allocator leaves alone. */
export const ACROSS = { gpa: 2 ** 20 - 8 * PAGE, pages: 16 };
const EVENTS = 1024;

/** A guest in a memory of somebody else's, its stretches in the reverse order, or in its own. */
async function makeGuest(options: Omit<GuestOptions, "ram">, embedded: boolean): Promise<Guest> {
	const { gpa, pages } = ACROSS;
	const all: GuestOptions = {
		...options,
		ram: STRETCHES,
		build: "engine.audit",
		auditEvents: EVENTS,
		cipher: opaque,
		// half of it in each stretch
		reserved: [gpa, 2 ** 20].map((half) => ({ gpa: half, bytes: (pages * PAGE) / 2 })),
	};
	if (!embedded) return Guest.create(all);
	const contextBytes = Math.ceil(Guest.contextBytes(all) / 65536) * 65536;
	// the second stretch, the context, the first stretch, the third: the context lies in the audit's span
	const at = [2 ** 16 + 2 ** 20 + contextBytes, 2 ** 16, 2 ** 16 + 2 ** 21 + contextBytes];
	const ram = STRETCHES.map((stretch, i) => ({ ...stretch, ptr: at[i] as number }));
	const audit = { ptr: (at[2] as number) + 2 ** 21, bytes: Guest.auditBytes({ ...all, ram }) };
	const memory = new WebAssembly.Memory({ initial: Math.ceil((audit.ptr + audit.bytes) / 65536) });
	const context = { ptr: 2 ** 16 + 2 ** 20, bytes: contextBytes };
	return Guest.create({ ...all, ram, memory, context, audit });
}

export class Twins {
	readonly guests: readonly [Guest, Guest];
	/** Bytes that the host learned something from, by the looks taken so far. */
	exposed = 0;
	/** Bytes of private origin on pages in a state. */
	readonly secretsOn = new Map<PageState, number>();

	private constructor(guests: readonly [Guest, Guest]) {
		this.guests = guests;
	}

	static async create(options: Omit<GuestOptions, "ram">, embedded: boolean): Promise<Twins> {
		return new Twins([await makeGuest(options, embedded), await makeGuest(options, embedded)]);
	}

	/** The first guest, for what is the same in both. */
	get one(): Guest {
		return this.guests[0];
	}

	/** Does the same to both; whatever comes of it, answer or error, must be equal. @returns the answer, or null for an error */
	both<T>(run: (guest: Guest, side: 0 | 1) => T): T | null {
		const done = ([0, 1] as const).map((side) => {
			try {
				return { answer: run(this.guests[side], side), error: null };
			} catch (error) {
				return { answer: null, error: `${(error as Error).name}: ${(error as Error).message}` };
			}
		});
		expect(done[1]).toEqual(done[0]);
		return done[0]?.answer ?? null;
	}

	/** Bytes as a side writes them. isSecret: of each byte, or of all */
	static of(side: 0 | 1, data: Uint8Array, isSecret: boolean | ((at: number) => boolean)): Uint8Array {
		if (side === 0) return data;
		return data.map((byte, at) => ((typeof isSecret === "boolean" ? isSecret : isSecret(at)) ? byte ^ SECRET : byte));
	}

	/** Breaks the audit of both. */
	mutate(): void {
		for (const { engine } of this.guests) if (engine.audit !== null) engine.audit.mutations = MUTATE_LABELS;
	}

	/**
	 * Looks at every byte of RAM. The guests differ in a byte if and only if its label is of private origin; the host gets
	 * different bytes if and only if the page is one that it reads besides.
	 * @param whole whether the host looks at every private page, too, or at few
	 */
	look(random: Random, whole: boolean): void {
		const { engine, platform } = this.one;
		const secret = new Uint8Array(256);
		for (const label of engine.audit?.labels ?? []) if (label.isPrivate) secret[label.number] = 1;
		const other = this.guests[1].engine;
		for (const { gpa: start, bytes } of engine.ram.regions) {
			for (let page = start; page < start + bytes; page += PAGE) {
				const state = engine.ram.pageState(page);
				if (other.ram.pageState(page) !== state) expect.fail(`the twins' states differ on page ${page.toString(16)}`);
				const labels = this.one.engine.audit?.labelsAt(page, PAGE) as Uint8Array;
				const differ = differences(engine.ram.view(page, PAGE), other.ram.view(page, PAGE));
				const known = secretsOf(labels, secret);
				if (Buffer.compare(differ, known) !== 0) expect.fail(this.#wrong(page, differ, known, "RAM"));
				if (Buffer.compare(labels, other.audit?.labelsAt(page, PAGE) as Uint8Array) !== 0)
					expect.fail(`the twins' labels differ on page ${page.toString(16)}`);
				const secrets = known === NONE ? 0 : known.reduce((sum, one) => sum + one, 0);
				if (secrets > 0) this.secretsOn.set(state, (this.secretsOn.get(state) ?? 0) + secrets);
				if (state === PageState.Private && platform.hostRead !== "plain" && !whole && !random.oneIn(64)) continue;
				const seen = this.#hostSees(page);
				const readable = state === PageState.Shared || (state === PageState.Private && platform.hostRead === "plain");
				const exposed = readable ? known : NONE;
				if (Buffer.compare(seen, exposed) !== 0) expect.fail(this.#wrong(page, seen, exposed, "the host's view"));
				if (readable) this.exposed += secrets;
			}
		}
	}

	/** Where the host gets different bytes of a page. */
	#hostSees(page: number): Uint8Array {
		const views = this.guests.map(({ parties }) => {
			try {
				return parties.host.read(page, PAGE);
			} catch (error) {
				if (!(error instanceof AccessFault)) throw error;
				return null;
			}
		});
		const [one, other] = views;
		if ((one === null) !== (other === null)) expect.fail(`one twin's host faults on page ${page.toString(16)}`);
		return one && other ? differences(one, other) : NONE;
	}

	#wrong(page: number, differ: Uint8Array, known: Uint8Array, where: string): string {
		const at = differ.findIndex((one, i) => one !== known[i]);
		const event = this.one.engine.audit
			?.events()
			.findLast(({ gpa, bytes }) => gpa <= page + at && page + at < gpa + bytes);
		const what =
			differ[at] === 1 ? "depends on a secret, and its label does not say so" : "is labelled, and depends on none";
		return `${where}: the byte at gpa 0x${(page + at).toString(16)} ${what}; last event ${JSON.stringify(event)}`;
	}
}

/** 1 where a page's label is of private origin. secret: 1 for each such label */
function secretsOf(labels: Uint8Array, secret: Uint8Array): Uint8Array {
	if (Buffer.compare(labels, NONE) === 0) return NONE;
	const out = new Uint8Array(PAGE);
	for (let i = 0; i < PAGE; i++) out[i] = secret[labels[i] as number] as number;
	return out;
}

/** 1 where two pages differ. */
function differences(one: Uint8Array, other: Uint8Array): Uint8Array {
	if (Buffer.compare(one, other) === 0) return NONE;
	const out = new Uint8Array(PAGE);
	for (let i = 0; i < out.length; i++) if (one[i] !== other[i]) out[i] = 1;
	return out;
}
