/** Runs a compiled workload (layout/replay.ts) through a device. */

import { deviceAt, gpaOf } from "../dma/device.ts";
import { dmaMap } from "../dma/map.ts";
import { dmaMapSg, dmaUnmapSg } from "../dma/scatter.ts";
import { dmaUnmap } from "../dma/unmap.ts";
import {
	DMA_ATTR_SKIP_CPU_SYNC,
	FROM_DEVICE,
	SG_BYTES,
	SG_DMA,
	SG_GPA,
	SG_LENGTH,
	TO_DEVICE,
} from "../layout/device.ts";
import {
	ENTRY_DIR,
	ENTRY_STORE,
	EVENT_BYTES,
	REQUEST_AFTER,
	REQUEST_ATTRS,
	REQUEST_BEFORE,
	REQUEST_BYTES,
	REQUEST_CPU,
	REQUEST_DATA,
	REQUEST_DIR,
	REQUEST_FIRST,
	REQUEST_STATUS,
	WORK_CHECK,
	WORK_DEVICE,
	WORK_DMA,
} from "../layout/replay.ts";
import { OK } from "../layout/status.ts";
import { ramRead, ramWrite } from "../memory/access.ts";
import { addressOf } from "../memory/address.ts";
import { NO_PTR, rangePtr } from "../memory/regions.ts";
import { countWrong, fillPattern } from "./pattern.ts";

/**
 * Runs `count` events.
 * @param device number of the device that maps
 * @param events ptr of u32 events
 * @param requests ptr of request records; their status is written
 * @param entries ptr of entries; their DMA addresses are written by WORK_DMA and used by WORK_DEVICE
 * @param deviceStore ptr of the device's own memory
 * @param work WORK_* bits
 * @returns bytes that did not arrive as sent (WORK_CHECK), else 0
 */
export function replayRun(
	device: i32,
	events: usize,
	count: u32,
	requests: usize,
	entries: usize,
	deviceStore: usize,
	work: u32,
): u32 {
	let wrong: u32 = 0;
	for (let i: u32 = 0; i < count; i++) {
		const event = load<u32>(events + i * EVENT_BYTES);
		const number = event >> 1;
		const request = requests + number * REQUEST_BYTES;
		const first = entries + load<u32>(request, REQUEST_FIRST) * SG_BYTES;
		if ((event & 1) === 0) {
			if ((work & WORK_CHECK) !== 0) prepareEntries(request, first, number, false, deviceStore);
			if ((work & WORK_DMA) !== 0) store<i32>(request, mapRequest(device, request, first), REQUEST_STATUS);
		} else if (load<i32>(request, REQUEST_STATUS) === OK) {
			if ((work & WORK_CHECK) !== 0) prepareEntries(request, first, number, true, deviceStore);
			if ((work & WORK_DEVICE) !== 0) moveEntries(device, request, first, deviceStore);
			if ((work & WORK_DMA) !== 0) unmapRequest(device, request, first);
			if ((work & WORK_CHECK) !== 0) wrong += checkEntries(request, first, number, deviceStore);
		}
	}
	return wrong;
}

function mapOne(device: i32, entry: usize, cpu: u32): i32 {
	const gpa = addressOf(load<f64>(entry, SG_GPA));
	const dma = dmaMap(device, gpa, load<i32>(entry, SG_LENGTH), load<i32>(entry, ENTRY_DIR), cpu, 0);
	if (dma < 0) return i32(dma);
	store<f64>(entry, f64(dma), SG_DMA);
	return OK;
}

function unmapSingles(device: i32, entry: usize, count: u32, attrs: u32): void {
	for (let i: u32 = 0; i < count; i++) {
		const dma = addressOf(load<f64>(entry, SG_DMA));
		dmaUnmap(device, dma, load<i32>(entry, SG_LENGTH), load<i32>(entry, ENTRY_DIR), attrs);
		entry += SG_BYTES;
	}
}

/** Maps a request's control and data entries, all or nothing. @returns OK or the status that refused one */
function mapRequest(device: i32, request: usize, first: usize): i32 {
	const cpu = load<u32>(request, REQUEST_CPU);
	const before = load<u32>(request, REQUEST_BEFORE);
	const data = load<u32>(request, REQUEST_DATA);
	const after = load<u32>(request, REQUEST_AFTER);
	const dir = load<i32>(request, REQUEST_DIR);
	const list = first + before * SG_BYTES;
	const tail = list + data * SG_BYTES;
	for (let i: u32 = 0; i < before; i++) {
		const status = mapOne(device, first + i * SG_BYTES, cpu);
		if (status !== OK) {
			unmapSingles(device, first, i, DMA_ATTR_SKIP_CPU_SYNC);
			return status;
		}
	}
	const attrs = load<u32>(request, REQUEST_ATTRS);
	const status = dmaMapSg(device, list, data, dir, cpu, attrs);
	if (status !== OK) {
		unmapSingles(device, first, before, DMA_ATTR_SKIP_CPU_SYNC);
		return status;
	}
	for (let i: u32 = 0; i < after; i++) {
		const status = mapOne(device, tail + i * SG_BYTES, cpu);
		if (status !== OK) {
			unmapSingles(device, tail, i, DMA_ATTR_SKIP_CPU_SYNC);
			dmaUnmapSg(device, list, data, dir, attrs | DMA_ATTR_SKIP_CPU_SYNC);
			unmapSingles(device, first, before, DMA_ATTR_SKIP_CPU_SYNC);
			return status;
		}
	}
	return OK;
}

function unmapRequest(device: i32, request: usize, first: usize): void {
	const before = load<u32>(request, REQUEST_BEFORE);
	const data = load<u32>(request, REQUEST_DATA);
	const list = first + before * SG_BYTES;
	unmapSingles(device, first, before, 0);
	dmaUnmapSg(device, list, data, load<i32>(request, REQUEST_DIR), load<u32>(request, REQUEST_ATTRS));
	unmapSingles(device, list + data * SG_BYTES, load<u32>(request, REQUEST_AFTER), 0);
}

function entryCount(request: usize): u32 {
	return load<u32>(request, REQUEST_BEFORE) + load<u32>(request, REQUEST_DATA) + load<u32>(request, REQUEST_AFTER);
}

/** The device's part: it reads or writes each entry at its DMA address, against its own store. */
function moveEntries(device: i32, request: usize, first: usize, deviceStore: usize): void {
	const n = entryCount(request);
	const record = deviceAt(device);
	for (let i: u32 = 0; i < n; i++) {
		const entry = first + i * SG_BYTES;
		const gpa = gpaOf(record, addressOf(load<f64>(entry, SG_DMA)));
		const ptr = deviceStore + load<u32>(entry, ENTRY_STORE);
		if (load<i32>(entry, ENTRY_DIR) === TO_DEVICE) ramRead(gpa, load<i32>(entry, SG_LENGTH), ptr);
		else ramWrite(gpa, load<i32>(entry, SG_LENGTH), ptr);
	}
}

/** A pattern's number: one for each entry of each request. */
function seedOf(number: u32, entry: u32): u32 {
	return number * 4096 + entry;
}

/**
 * Before a map: the sender's bytes hold the pattern and the receiver's another one. Before completion: so does the store.
 */
function prepareEntries(request: usize, first: usize, number: u32, completing: bool, deviceStore: usize): void {
	const n = entryCount(request);
	for (let i: u32 = 0; i < n; i++) {
		const entry = first + i * SG_BYTES;
		const bytes = load<u32>(entry, SG_LENGTH);
		const sends = load<i32>(entry, ENTRY_DIR) !== FROM_DEVICE;
		const seed = seedOf(number, i);
		if (completing) fillPattern(deviceStore + load<u32>(entry, ENTRY_STORE), bytes, sends ? ~seed : seed);
		else {
			const ptr = rangePtr(addressOf(load<f64>(entry, SG_GPA)), bytes);
			if (ptr !== NO_PTR) fillPattern(ptr, bytes, sends ? seed : ~seed);
		}
	}
}

function checkEntries(request: usize, first: usize, number: u32, deviceStore: usize): u32 {
	const n = entryCount(request);
	let wrong: u32 = 0;
	for (let i: u32 = 0; i < n; i++) {
		const entry = first + i * SG_BYTES;
		const bytes = load<u32>(entry, SG_LENGTH);
		const received =
			load<i32>(entry, ENTRY_DIR) === FROM_DEVICE
				? rangePtr(addressOf(load<f64>(entry, SG_GPA)), bytes)
				: deviceStore + load<u32>(entry, ENTRY_STORE);
		wrong += received === NO_PTR ? bytes : countWrong(received, bytes, seedOf(number, i));
	}
	return wrong;
}
