/** Scatter-gather lists: one crossing for many segments. Linux 6.12 kernel/dma/direct.c, dma_direct_map_sg. */
import { DMA_ATTR_SKIP_CPU_SYNC, SG_BYTES, SG_DMA, SG_GPA, SG_LENGTH } from "../layout/device.ts";
import { OK } from "../layout/status.ts";
import { addressOf } from "../memory/address.ts";
import { dmaMap } from "./map.ts";
import { dmaUnmap } from "./unmap.ts";

/**
 * Maps each entry of a list; the DMA addresses are written to the entries. All or nothing: when one fails, the ones
 * before it are unmapped without copying back.
 * @param list ptr of `count` entries (layout/device.ts, SG_*)
 * @returns OK, or the status of the entry that failed
 */
export function dmaMapSg(index: i32, list: usize, count: u32, dir: i32, cpu: u32, attrs: u32): i32 {
	for (let i: u32 = 0; i < count; i++) {
		const entry = list + i * SG_BYTES;
		const dma = dmaMap(index, addressOf(load<f64>(entry, SG_GPA)), load<i32>(entry, SG_LENGTH), dir, cpu, attrs);
		if (dma < 0) {
			dmaUnmapSg(index, list, i, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC);
			return i32(dma);
		}
		store<f64>(entry, f64(dma), SG_DMA);
	}
	return OK;
}

/** Ends the mappings of a list. @returns OK, or the first status that an entry answered; the others are unmapped all the same */
export function dmaUnmapSg(index: i32, list: usize, count: u32, dir: i32, attrs: u32): i32 {
	let status = OK;
	for (let i: u32 = 0; i < count; i++) {
		const entry = list + i * SG_BYTES;
		const done = dmaUnmap(index, addressOf(load<f64>(entry, SG_DMA)), load<i32>(entry, SG_LENGTH), dir, attrs);
		if (done < 0 && status === OK) status = done;
	}
	return status;
}
