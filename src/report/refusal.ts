/** Refusals in words: the one place where they are made. */
import type { BrokenRule, KernelMessage, Refusal, Remedy } from "../dma/refusal.ts";
import { hex } from "../status.ts";
import { row, type Table, table, text } from "./model.ts";
import { exactBytes, formatNumber } from "./units.ts";

/** A DMA address as %pad prints it. */
const pad = (address: number) => `0x${address.toString(16).padStart(16, "0")}`;

/** What Linux logs, without the device's name in front. Linux 6.12 kernel/dma/swiotlb.c and direct.h */
function messageText(message: KernelMessage): string {
	switch (message.class) {
		case "FULL": {
			const { bytes, totalSlots, usedSlots } = message;
			return `swiotlb buffer is full (sz: ${bytes} bytes), total ${totalSlots} (slots), used ${usedSlots} (slots)`;
		}
		case "NO-POOL":
			return "Can not allocate SWIOTLB buffer earlier and can't now provide you with the DMA bounce buffer";
		case "DMA-OVERFLOW":
		case "TLB-OVERFLOW": {
			const { dma, bytes, mask, busLimit } = message;
			const what = message.class === "DMA-OVERFLOW" ? "DMA addr" : "swiotlb addr";
			const at = dma === null ? "(of its slots)" : pad(dma);
			return `${what} ${at}+${bytes} overflow (mask ${mask}, bus limit ${busLimit}).`;
		}
	}
}

/** A rule that is broken, with its numbers. */
function ruleText(rule: BrokenRule): string {
	switch (rule.rule) {
		case "reach": {
			const { of, endDma, limit, limitedBy, encodingBits } = rule;
			const whose = limitedBy === "dma_mask" ? "mask" : "bus limit";
			const encoded = encodingBits === 0 ? "" : `, ${hex(encodingBits)} of it by the encoding`;
			const what = of === "buffer" ? "the buffer ends at" : "the slots end at";
			return `dma_capable(): ${what} ${hex(endDma)} > ${whose} ${hex(limit)}${encoded}`;
		}
		case "state":
			return "dma_capable(): force_dma_unencrypted(dev), and the memory is private (no DMA_ATTR_CC_SHARED)";
		case "cache-line":
			return `dma_kmalloc_needs_bounce(): ${exactBytes(rule.bytes)} may share a cache line of 64 bytes, and the device is not coherent`;
		case "coherence":
			return "DMA_ATTR_REQUIRE_COHERENT, and the device is not coherent";
		case "attribute":
			return `it would have to bounce, and ${rule.attribute} forbids it`;
		case "policy":
			return `it would have to bounce, and policy ${rule.policy} has ${rule.mechanism} instead`;
		case "no-pool":
			return rule.forced ? "the device must bounce, and has no pool" : "is_swiotlb_active(dev): the device has no pool";
		case "pool-state": {
			const { poolShared, needsShared } = rule;
			const state = (shared: boolean) => (shared ? "shared" : "private");
			return `swiotlb_map(): the pool is ${state(poolShared)}, and the device needs a ${state(needsShared)} one`;
		}
		case "max-mapping": {
			const { offsetBytes, bytes, slots, maxSlots } = rule;
			const sum = offsetBytes === 0 ? exactBytes(bytes) : `offset ${hex(offsetBytes)} + ${exactBytes(bytes)}`;
			return `IO_TLB_SEGSIZE: ${sum} = ${formatNumber(slots)} slots > ${maxSlots}`;
		}
		case "free-run": {
			const { slots, usedSlots, totalSlots, longestFreeRunSlots, disabled } = rule;
			if (disabled) return "the pool could not be decrypted: none of its slots is ever free";
			const use = `${formatNumber(usedSlots)} of ${formatNumber(totalSlots)} in use`;
			return `no run of ${slots} free slots fits: ${use}, longest free run ${longestFreeRunSlots}`;
		}
		case "call":
			return "no kernel's rule: Linux leaves it undefined";
	}
}

function remedyText(remedy: Remedy): string {
	switch (remedy.remedy) {
		case "split":
			return remedy.anywhere
				? `map at most ${exactBytes(remedy.bytes)} at once (dma_max_mapping_size), as a driver that asks does`
				: `map at most ${exactBytes(remedy.bytes)} of it at once`;
		case "pool":
			return remedy.slots === null
				? "give the device a pool: boot without swiotlb=noforce"
				: `a larger pool: swiotlb=${remedy.slots}`;
		case "usable-pool":
			return "a pool whose pages can be decrypted";
		case "reach": {
			const { of, limit, maskBits, byEncoding } = remedy;
			const what = of === "buffer" ? "a buffer" : "a pool";
			const lower = byEncoding ? [] : [`${what} below ${hex(limit + 1)}`];
			const wider = maskBits === null ? [] : [`a DMA mask of ${maskBits} bits`];
			return [...lower, ...wider].join(", or ") || "a bus that carries the encoding's bit";
		}
		case "private-or-shared": {
			const accepted = "have the device accepted";
			return remedy.reachesShared ? `${accepted}, or decrypt the buffer and map it with DMA_ATTR_CC_SHARED` : accepted;
		}
		case "pool-state":
			return `a ${remedy.shared ? "shared" : "private"} pool, or no force to bounce`;
		case "without-attribute":
			return `map it without ${remedy.attribute}`;
		case "cache-lines":
			return `a buffer of ${remedy.bytes} bytes or more, or of whole cache lines`;
		case "coherent-device":
			return "a device that is cache-coherent";
		case "policy":
			return `a policy that bounces here, which ${remedy.policy} does not`;
	}
}

/** Each way to have it mapped, in a line. */
function waysText({ ways }: Refusal): string[] {
	return ways.map((steps) => steps.map(remedyText).join("; and "));
}

function fitsText({ errno, largestBytes, largestAnywhereBytes }: Refusal): string[] {
	if (errno === null) return [];
	const most = largestBytes === 0 ? "nothing" : exactBytes(largestBytes ?? 0);
	const here = largestBytes === null ? [] : [`${most} at this address as things stand`];
	const anywhere =
		largestAnywhereBytes === null
			? []
			: [`${exactBytes(largestAnywhereBytes)} at any address (dma_max_mapping_size), while the pool has room`];
	return [...here, ...anywhere];
}

/** What Linux logs of a refusal, and what mends it, in sentences. */
export function refusalAdvice(refusal: Refusal): string {
	const { message } = refusal;
	const logged = message === null ? "Linux logs nothing." : `Linux logs "${messageText(message)}".`;
	const ways = waysText(refusal);
	return ways.length === 0 ? logged : `${logged} What mends it: ${ways.join("; or ")}.`;
}

/** A refusal in a line. */
export function refusalLine(refusal: Refusal): string {
	return `${refusal.broken.map(ruleText).join("; ")}. ${refusalAdvice(refusal)}`;
}

/** A refusal, a fact a row. */
export function refusalTable(refusal: Refusal): Table {
	const { errno, message, broken, next } = refusal;
	const facts: [string, readonly string[]][] = [
		[
			"caller",
			errno === null
				? []
				: [`DMA_MAPPING_ERROR (dma_mapping_error: -${errno.mapping}); dma_map_sgtable() answers -${errno.list}`],
		],
		["log", message === null ? (errno === null ? [] : ["nothing"]) : [`${message.class}: ${messageText(message)}`]],
		["broken", broken.map(ruleText)],
		["broken too", next.map(ruleText)],
		["fits", fitsText(refusal)],
		["remedy", waysText(refusal)],
	];
	const rows = facts.flatMap(([label, lines]) =>
		lines.map((line, i) => row(i === 0 ? label : label === "remedy" ? "or" : "", [text(line)])),
	);
	return table("words", [{ title: "", rows }]);
}
