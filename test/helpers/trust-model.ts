/** What a kernel decides about a mapping and what parties see, written down from the facts, without src/coco's rules. */
import type { GuestDevice } from "../../src/coco/guest/device.ts";
import type { Guest } from "../../src/coco/guest/guest.ts";
import type { Platform } from "../../src/coco/platform/platform.ts";
import { PageState } from "../../src/memory/ram.ts";
import { Attr, Direction } from "../../src/types.ts";
import { isGuest, reachesSharedOnly } from "./kernel-facts.ts";

/** A mapping that is asked for. */
export interface Wanted {
	readonly gpa: number;
	readonly bytes: number;
	readonly dir: Direction;
	readonly attrs: number;
}

/** What comes of it, if the pool has room. */
export interface Outcome {
	/** "copied": bounced, and refused after the copy. */
	readonly what: "direct" | "bounce" | "copied" | "refused";
	readonly status: string | null;
	/** What the address has that the gpa or tlb_addr has not. */
	readonly bits: bigint;
}

const NEVER = 2n ** 64n - 1n;

/** The address bit of a form, or 0. */
function bitOf({ dmaBit }: Platform, form: "private" | "shared", encoded: boolean): bigint {
	return encoded && dmaBit?.means === form ? 1n << BigInt(dmaBit.bit) : 0n;
}

function limitOf({ dmaMask = NEVER, busLimit = 0n }: { dmaMask?: bigint; busLimit?: bigint }): bigint {
	return busLimit !== 0n && busLimit < dmaMask ? busLimit : dmaMask;
}

/** State of each page of a range. */
export function statesOf(guest: Guest, gpa: number, bytes: number): PageState[] {
	const states: PageState[] = [];
	for (let page = Math.floor(gpa / 4096); page * 4096 < gpa + bytes; page++)
		states.push(guest.engine.ram.pageState(page * 4096));
	return states;
}

/**
 * Linux's decision (facts: 6.12 dma_direct_map_page, 7.3 dma_direct_map_phys).
 * @param tlb where the bounce slots are, if the mapping bounces
 */
export function outcomeOf(guest: Guest, device: GuestDevice, wanted: Wanted, tlb: number): Outcome {
	const { gpa, bytes, dir, attrs } = wanted;
	const { platform } = guest;
	const { encoded = true, coherent = true, minAlignMask = 0 } = device.options;
	const late = guest.kernel.name === "linux-7.3";
	const ccShared = late && (attrs & Attr.CcShared) !== 0;
	const mayBounce = !(late && (attrs & Attr.RequireCoherent) !== 0);
	const { forced, noforce } = device.ruled;
	const isPrivate = late ? !ccShared : statesOf(guest, gpa, bytes).every((state) => state === PageState.Private);
	const pool = (isPrivate ? device.privatePool : null) ?? device.pool;
	const limit = limitOf(device.options);
	const { coherentDmaMask, busLimit = 0n } = device.options;
	const coherentLimit = coherentDmaMask === undefined ? limit : limitOf({ dmaMask: coherentDmaMask, busLimit });
	// acceptance is a guest's: an encrypted host asks for the mask alone
	const trusted = late && isGuest(guest.kernel.name, platform.name) && device.accepted;
	const sharedOnly = reachesSharedOnly(guest.kernel.name, platform.name, coherentLimit) && !trusted;
	const refused = (status: string): Outcome => ({ what: "refused", status, bits: 0n });
	if (!mayBounce && !coherent) return refused("NOT_COHERENT");
	const force =
		device.pool?.restricted === true || forced || (!late && isGuest(guest.kernel.name, platform.name) && !noforce);
	if (!force) {
		const bits = bitOf(platform, ccShared ? "shared" : "private", encoded);
		const reaches = BigInt(gpa) + bits + BigInt(bytes) - 1n <= limit;
		const permitted = !late || ccShared || !sharedOnly;
		const sharesLine = !coherent && dir !== Direction.ToDevice && (bytes <= 32 || (bytes > 64 && bytes <= 96));
		if (reaches && permitted && !sharesLine) return { what: "direct", status: null, bits };
		if (pool === null || !mayBounce) {
			if (!reaches) return refused("BEYOND_MASK");
			return refused(permitted ? "SHARES_CACHE_LINE" : "NEEDS_SHARED");
		}
	}
	if (!mayBounce) return refused("BOUNCE_REFUSED");
	if (pool === null) return refused("NO_POOL");
	if (late && pool.ccShared !== (platform.name === "sme" || sharedOnly)) return refused("POOL_STATE");
	const slots = Math.ceil(((gpa & minAlignMask & 2047) + bytes) / 2048);
	if (slots > 128) return refused("OVER_MAX_MAPPING");
	// a set of 128 slots starts where every bit of the mask is 0
	if (((gpa & minAlignMask) >> 11) + slots > 128) return refused("POOL_FULL");
	const bits = bitOf(platform, pool.ccShared ? "shared" : "private", encoded);
	if (BigInt(tlb) + bits + BigInt(bytes) - 1n <= limit) return { what: "bounce", status: null, bits };
	return { what: "copied", status: "SLOTS_BEYOND_MASK", bits };
}

/** What the host gets of pages in these states. */
export function hostSees({ hostRead }: Platform, states: readonly PageState[]): string {
	const each = states.map((state) =>
		state === PageState.Private ? hostRead : state === PageState.Hidden ? "fault" : "plain",
	);
	return each.includes("fault") ? "fault" : (each.find((sight) => sight !== "plain") ?? "plain");
}

/** What a device with a T bit gets through an address of a form (null: the platform encodes nothing). */
export function deviceSees(
	platform: Platform,
	states: readonly PageState[],
	t: 0 | 1,
	form: "private" | "shared" | null,
): string {
	const each = states.map((state) => {
		if (state === PageState.Hidden) return "fault";
		if (state === PageState.Private) return t === 1 && form !== "shared" ? "plain" : platform.hostRead;
		if (form !== "private") return "plain";
		return platform.hostRead === "ciphertext" ? "garbage" : "fault";
	});
	if (each.includes("fault")) return "fault";
	return each.findLast((sight) => sight !== "plain") ?? "plain";
}

/** The form of an address on a platform: which of its kinds of page it names. */
export function formOf({ dmaBit }: Platform, encoded: boolean, bits: bigint): "private" | "shared" | null {
	if (!encoded || dmaBit === null) return null;
	return bits !== 0n ? dmaBit.means : dmaBit.means === "private" ? "shared" : "private";
}
