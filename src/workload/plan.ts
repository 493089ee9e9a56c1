/** Compiles a workload into commands, segments and control mappings for one device and memory: what the replay loop runs. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { FROM_DEVICE, SG_BYTES, SG_DMA, SG_GPA, SG_LENGTH, TO_DEVICE } from "../../assembly/layout/device.ts";
import * as layout from "../../assembly/layout/replay.ts";
import { InputError } from "../input-error.ts";
import type { Direction, Gpa } from "../types.ts";
import type { BufferAllocator, PageStretch } from "./pages.ts";
import type { DevicePreset } from "./presets.ts";
import type { Request, Workload } from "./workload.ts";

/** Bytes of the device's own store that data sectors fall into; sectors repeat beyond it. */
const STORE_DATA_BYTES = 64 * 2 ** 20;
/** Largest command that fits behind the last sector of the store. */
const STORE_TAIL_BYTES = 64 * 2 ** 20;
/** Control buffers lie in the store behind the data. */
const STORE_CONTROL = STORE_DATA_BYTES + STORE_TAIL_BYTES;
export const STORE_BYTES = STORE_CONTROL + 4096;

/** Where a driver's per-command structure holds the header; the status byte follows it. Stride and offset as virtio-blk's. */
const CONTROL_STRIDE_BYTES = 0x180;
const CONTROL_OFFSET_BYTES = 0xf8;

/** One piece of a mapping list. */
export interface Entry {
	readonly gpa: Gpa;
	readonly bytes: number;
	readonly dir: Direction;
	readonly store: number;
}

/** One command that the device gets: a request, or a part of one that is too large. */
export interface Command {
	readonly first: number;
	readonly before: number;
	readonly data: number;
	readonly after: number;
	readonly dir: Direction;
	readonly cpu: number;
	readonly attrs: number;
}

export interface Plan {
	readonly commands: readonly Command[];
	readonly entries: readonly Entry[];
	/** Replay events over commands. */
	readonly events: Uint32Array;
	/** For each of the workload's events, the number of its first replay event; one more at the end. */
	readonly eventStarts: Uint32Array;
	/** Bytes of linear memory that the plan's tables need. */
	readonly bytes: number;
}

/** Where a plan's buffers lie, and how they are mapped. */
interface PlanMemory {
	/** Where data buffers come from; each lives from its issue to its completion. */
	readonly pages: Pick<BufferAllocator, "take" | "give">;
	/** Page-aligned memory for the driver's per-command structures. */
	readonly control: PageStretch;
	/** dma_max_mapping_size of the device; Infinity for none. */
	readonly maxMappingBytes: number;
	/** Attributes with which a request's data is mapped, by its first run. Default: none. */
	readonly attrsOf?: (run: PageStretch) => number;
}

/** Bytes that a workload's plan takes at most: each page of a request is an entry, and a command adds up to two more. */
export function planRoom(workload: Workload): number {
	const pages = workload.requests.reduce((sum, { bytes }) => sum + Math.ceil(bytes / PAGE_SIZE), 0);
	return (
		256 +
		(workload.events.length + pages * 2) * layout.EVENT_BYTES +
		(workload.requests.length + pages) * (layout.REQUEST_BYTES + 2 * SG_BYTES) +
		pages * SG_BYTES
	);
}

/** Where a plan's tables were written. */
export interface PlacedPlan {
	readonly events: number;
	readonly requests: number;
	readonly entries: number;
}

/** Splits runs into segments and those into commands within the preset's limits. */
function split(runs: readonly PageStretch[], preset: DevicePreset, maxMappingBytes: number): PageStretch[][] {
	const segmentLimit = Math.min(preset.maxSegmentBytes, maxMappingBytes);
	const commandLimit = Math.min(
		preset.maxRequestBytes,
		preset.limitsRequest ? maxMappingBytes : Number.POSITIVE_INFINITY,
	);
	const commands: PageStretch[][] = [];
	let current: PageStretch[] = [];
	let room = 0;
	for (const run of runs) {
		let { gpa, bytes: left } = run;
		while (left > 0) {
			if (room === 0 || current.length === preset.maxSegments) {
				current = [];
				commands.push(current);
				room = commandLimit;
			}
			const bytes = Math.min(left, segmentLimit, room);
			current.push({ gpa, bytes });
			gpa += bytes;
			left -= bytes;
			room -= bytes;
		}
	}
	return commands;
}

/** Collects entries, commands and events. */
class Compiler {
	readonly commands: Command[] = [];
	readonly entries: Entry[] = [];
	readonly #preset: DevicePreset;
	readonly #control: PageStretch;
	/** Control structures that no live command uses. */
	readonly #freeTags: number[] = [];
	#nextTag = 0;
	readonly #tags: number[] = [];

	/** Control structures that fit into the control memory. */
	readonly #maxTags: number;
	readonly #name: string;

	constructor(name: string, preset: DevicePreset, control: PageStretch) {
		this.#name = name;
		this.#preset = preset;
		this.#control = control;
		this.#maxTags = Math.floor((control.bytes - CONTROL_OFFSET_BYTES) / CONTROL_STRIDE_BYTES);
	}

	/** Adds a command over segments that belong to the sectors from `sector` on. @returns its number */
	add(segments: readonly PageStretch[], { read, cpu }: Request, sector: number, attrs: number): number {
		const { headerBytes, statusBytes } = this.#preset;
		const first = this.entries.length;
		const dir = read ? FROM_DEVICE : TO_DEVICE;
		const tag = this.#freeTags.pop() ?? this.#nextTag++;
		if (tag >= this.#maxTags) throw new InputError(`${this.#name}: more than ${this.#maxTags} commands are in flight`);
		const control = this.#control.gpa + CONTROL_OFFSET_BYTES + tag * CONTROL_STRIDE_BYTES;
		if (headerBytes > 0) this.entries.push({ gpa: control, bytes: headerBytes, dir: TO_DEVICE, store: STORE_CONTROL });
		let store = (sector * 512) % STORE_DATA_BYTES;
		for (const { gpa, bytes } of segments) {
			this.entries.push({ gpa, bytes, dir, store });
			store += bytes;
		}
		if (statusBytes > 0) {
			this.entries.push({
				gpa: control + headerBytes,
				bytes: statusBytes,
				dir: FROM_DEVICE,
				store: STORE_CONTROL + 64,
			});
		}
		this.#tags.push(tag);
		return (
			this.commands.push({
				first,
				before: headerBytes > 0 ? 1 : 0,
				data: segments.length,
				after: statusBytes > 0 ? 1 : 0,
				dir,
				cpu,
				attrs,
			}) - 1
		);
	}

	done(command: number): void {
		this.#freeTags.push(this.#tags[command] as number);
	}
}

/**
 * Compiles a workload for a device.
 * @throws InputError when more bytes are in flight than the allocator has
 */
export function compilePlan(
	workload: Workload,
	preset: DevicePreset,
	{ pages, control, maxMappingBytes, attrsOf = () => 0 }: PlanMemory,
): Plan {
	const compiler = new Compiler(workload.name, preset, control);
	const live = new Map<number, { runs: PageStretch[]; commands: number[] }>();
	const events: number[] = [];
	const eventStarts = new Uint32Array(workload.events.length + 1);
	for (const [i, event] of workload.events.entries()) {
		eventStarts[i] = events.length;
		const number = event >>> 1;
		const request = workload.requests[number];
		if (request === undefined) throw new InputError(`${workload.name}: event of request ${number}, which is not there`);
		if ((event & 1) === 0) {
			const runs = pages.take(request.bytes);
			if (runs === undefined) {
				throw new InputError(
					`${workload.name}: request ${number} of ${request.bytes} bytes finds no free page: give it more --ram`,
				);
			}
			let sector = request.sector;
			const attrs = attrsOf(runs[0] as PageStretch);
			const commands = split(runs, preset, maxMappingBytes).map((segments) => {
				const command = compiler.add(segments, request, sector, attrs);
				sector += segments.reduce((sum, { bytes }) => sum + bytes, 0) / 512;
				return command;
			});
			live.set(number, { runs, commands });
			for (const command of commands) events.push(command * 2);
		} else {
			const { runs, commands } = live.get(number) as { runs: PageStretch[]; commands: number[] };
			live.delete(number);
			for (const command of commands) {
				events.push(command * 2 + 1);
				compiler.done(command);
			}
			pages.give(runs);
		}
	}
	eventStarts[workload.events.length] = events.length;
	const { commands, entries } = compiler;
	const bytes =
		align(events.length * layout.EVENT_BYTES) +
		align(commands.length * layout.REQUEST_BYTES) +
		align(entries.length * SG_BYTES);
	return { commands, entries, events: Uint32Array.from(events), eventStarts, bytes };
}

function align(bytes: number): number {
	return Math.ceil(bytes / 64) * 64;
}

/** Writes a plan's tables at `ptr` (a multiple of 64, with `plan.bytes` of room). */
export function placePlan(plan: Plan, data: DataView, ptr: number): PlacedPlan {
	const requests = ptr + align(plan.events.length * layout.EVENT_BYTES);
	const entries = requests + align(plan.commands.length * layout.REQUEST_BYTES);
	for (const [i, event] of plan.events.entries()) data.setUint32(ptr + i * layout.EVENT_BYTES, event, true);
	for (const [i, command] of plan.commands.entries()) {
		const at = requests + i * layout.REQUEST_BYTES;
		data.setUint32(at + layout.REQUEST_FIRST, command.first, true);
		data.setUint32(at + layout.REQUEST_BEFORE, command.before, true);
		data.setUint32(at + layout.REQUEST_DATA, command.data, true);
		data.setUint32(at + layout.REQUEST_AFTER, command.after, true);
		data.setUint32(at + layout.REQUEST_DIR, command.dir, true);
		data.setUint32(at + layout.REQUEST_CPU, command.cpu, true);
		data.setUint32(at + layout.REQUEST_ATTRS, command.attrs, true);
		data.setInt32(at + layout.REQUEST_STATUS, 0, true);
	}
	for (const [i, entry] of plan.entries.entries()) {
		const at = entries + i * SG_BYTES;
		data.setFloat64(at + SG_GPA, entry.gpa, true);
		data.setFloat64(at + SG_DMA, 0, true);
		data.setUint32(at + SG_LENGTH, entry.bytes, true);
		data.setUint32(at + layout.ENTRY_DIR, entry.dir, true);
		data.setUint32(at + layout.ENTRY_STORE, entry.store, true);
	}
	return { events: ptr, requests, entries };
}
