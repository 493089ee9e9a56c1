/** Whether a mapping goes direct, bounces or is refused, once more: as Linux 6.12 and the 7.3 merge say it. */
import * as status from "../../assembly/layout/status.ts";

export type Pages = "private" | "shared" | "mixed";

export interface RulesCase {
	/** The rules after the 7.3 merge. */
	readonly checksState: boolean;
	/** force_dma_unencrypted. */
	readonly needsShared: boolean;
	readonly forced: boolean;
	/** What would bounce is to be refused. */
	readonly noBounce: boolean;
	/** A host whose memory is encrypted: its pools and MMIO are shared. */
	readonly host: boolean;
	readonly ccShared: boolean;
	readonly mmio: boolean;
	readonly requireCoherent: boolean;
	readonly pages: Pages;
	readonly mask: bigint;
	readonly privateBit: bigint;
	readonly sharedBit: bigint;
	/** 6.12: direct addresses take the private form whatever the pages are. */
	readonly encodesAsLinux: boolean;
	readonly pool: "none" | "shared" | "encrypted";
	readonly coherent: boolean;
	readonly bytes: number;
	readonly toDevice: boolean;
	readonly gpa: bigint;
	/** The first slot of the pool. */
	readonly slot: bigint;
}

export interface Decision {
	/** An address or a status. */
	readonly answer: number;
	readonly bounced: boolean;
	/** Whether bytes were copied into slots. */
	readonly copied: boolean;
}

function reaches({ mask, bytes }: RulesCase, address: bigint): boolean {
	return address + BigInt(bytes) - 1n <= mask;
}

function refuse(answer: number, copied = false): Decision {
	return { answer, bounced: false, copied };
}

function direct(address: bigint): Decision {
	return { answer: Number(address), bounced: false, copied: false };
}

/** swiotlb_map: the copy comes before the mask, and after the pool's state. */
function bounce(c: RulesCase): Decision {
	if (c.noBounce) return refuse(status.BOUNCE_REFUSED);
	if (c.pool === "none") return refuse(status.NO_POOL);
	if (c.checksState && (c.pool === "shared") !== (c.host || c.needsShared)) return refuse(status.POOL_STATE);
	const address = c.slot | (c.pool === "encrypted" ? c.privateBit : c.sharedBit);
	if (!reaches(c, address)) return refuse(status.SLOTS_BEYOND_MASK, true);
	return { answer: Number(address), bounced: true, copied: true };
}

/** A buffer that may share a cache line with others, written by a device that is not coherent. */
function sharesLines(c: RulesCase): boolean {
	return !c.coherent && !c.toDevice && (c.bytes <= 32 || (c.bytes > 64 && c.bytes <= 96));
}

function decide612(c: RulesCase): Decision {
	if (c.mmio) return reaches(c, c.gpa) ? direct(c.gpa) : refuse(status.BEYOND_MASK);
	if (c.forced) return bounce(c);
	const isPrivateForm = c.encodesAsLinux || c.pages === "private";
	const address = c.gpa | (isPrivateForm ? c.privateBit : c.sharedBit);
	// what may not bounce is refused before anybody asks for a pool
	const refused = c.pool === "none" && !c.noBounce;
	if (!reaches(c, address)) return refused ? refuse(status.BEYOND_MASK) : bounce(c);
	if (sharesLines(c)) return refused ? refuse(status.SHARES_CACHE_LINE) : bounce(c);
	// one address cannot stand for both kinds of page, where it says of which it is
	return c.pages === "mixed" && !c.encodesAsLinux ? refuse(status.MIXED_PAGES) : direct(address);
}

function decide73(c: RulesCase): Decision {
	if (c.requireCoherent && !c.coherent) return refuse(status.NOT_COHERENT);
	const ccShared = c.ccShared || (c.mmio && c.host);
	const mayBounce = !c.mmio && !c.requireCoherent;
	if (c.forced) return mayBounce ? bounce(c) : refuse(status.BOUNCE_REFUSED);
	const address = c.gpa | (ccShared ? c.sharedBit : c.privateBit);
	const permitted = ccShared || !c.needsShared;
	if (!reaches(c, address) || !permitted) {
		if (mayBounce && c.pool !== "none") return bounce(c);
		return refuse(reaches(c, address) ? status.NEEDS_SHARED : status.BEYOND_MASK);
	}
	if (c.mmio || !sharesLines(c)) return direct(address);
	return c.pool === "none" ? refuse(status.SHARES_CACHE_LINE) : bounce(c);
}

export function decideByModel(c: RulesCase): Decision {
	return c.checksState ? decide73(c) : decide612(c);
}
