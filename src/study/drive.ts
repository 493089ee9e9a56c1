/** Runs a workload's plan through a device's DMA API, command by command, and the device's own part with it. */
import type { Label } from "../audit/audit.ts";
import { KernelCrash } from "../coco/rules/policy.ts";
import { type StatusName, statusName } from "../status.ts";
import { Attr, Direction, type DmaAddr } from "../types.ts";
import type { Command, Entry } from "../workload/plan.ts";
import { accessCause, type Cause, type CauseCount, CauseCounts, crashCause } from "./cause.ts";
import type { CheckedRun, Driver, Pass } from "./driver.ts";
import { type FirstRefusal, refusalNow } from "./refusal.ts";
import type { Replay } from "./replay.ts";
import { Sampler } from "./sampler.ts";
import { clockCostNs } from "./statistics.ts";

/** What a drive came to. */
export interface DriveResult {
	readonly commands: number;
	/** Commands refused, by status. */
	readonly refused: Readonly<Partial<Record<StatusName, number>>>;
	/** The first of them, or null. */
	readonly firstRefused: FirstRefusal | null;
	/** Where the kernel ended, or null. What came behind is not run, and what was mapped stays. */
	readonly crash: Cause | null;
	/** Entries whose bytes did not arrive. */
	readonly undelivered: readonly CauseCount[];
	/** Bytes that did not arrive, wherever they were to. */
	readonly wrongBytes: number;
	readonly sharedInPlace: number;
}

interface DriveHooks {
	/** Whether drivers write data before a write, and the device moves bytes. Default true: else only the DMA layer works. */
	readonly moves?: boolean;
	/** The label of what drivers write. */
	readonly label?: Label;
	/** Called before each event of the trace, with its time since the start (ns). */
	readonly onEvent?: (number: number, timeNs: number) => void;
	/** Called after a command's maps, before the device sees it, and after its unmaps: what its queue is for. */
	readonly onIssued?: (command: number) => void;
	readonly onDone?: (command: number) => void;
	/** Called after each command was issued or completed. */
	readonly onCommand?: () => void;
}

/** Entries' data start within so many bytes of the drive's data. */
const DATA_STARTS = 2 ** 16;

/** A plan under way on a device. */
export class Drive {
	readonly #on: Replay;
	readonly #hooks: DriveHooks;
	/** What requests carry, each from another place of it. */
	readonly #data: Uint8Array;
	/** DMA addresses of the commands under way, in the order of their entries. */
	readonly #live = new Map<number, DmaAddr[]>();
	readonly #refused: Partial<Record<StatusName, number>> = {};
	#firstRefused: FirstRefusal | null = null;
	/** A command a byte: 1 where it was refused. */
	readonly refused: Uint8Array;
	#wrongBytes = 0;
	readonly #undelivered = new CauseCounts();
	#crash: Cause | null = null;

	constructor(on: Replay, hooks: DriveHooks = {}) {
		this.#on = on;
		this.#hooks = hooks;
		this.refused = new Uint8Array(on.plan.commands.length);
		const longest = on.plan.entries.reduce((most, { bytes }) => Math.max(most, bytes), 0);
		this.#data = Uint8Array.from({ length: DATA_STARTS + longest }, (_, i) => (Math.imul(i, 0x9e3779b1) >>> 24) | 1);
	}

	/** What an entry of a command carries. */
	#dataOf(command: number, entry: number, bytes: number): Uint8Array {
		const from = ((command * 64 + entry * 7) * 61) % DATA_STARTS;
		return this.#data.subarray(from, from + bytes);
	}

	/** Runs the whole plan. */
	run(): DriveResult {
		const { plan, workload, stage } = this.#on;
		for (let i = 0; i < workload.events.length && this.#crash === null; i++) {
			this.#hooks.onEvent?.(i, workload.timesNs[i] as number);
			this.event(i);
		}
		return {
			commands: plan.commands.length,
			refused: this.#refused,
			firstRefused: this.#firstRefused,
			crash: this.#crash,
			undelivered: this.#undelivered.list,
			wrongBytes: this.#wrongBytes,
			sharedInPlace: stage.device.conversions,
		};
	}

	/** Runs one event of the trace. */
	event(number: number): void {
		const { plan, workload } = this.#on;
		const end = plan.eventStarts[number + 1] as number;
		for (let at = plan.eventStarts[number] as number; at < end; at++) {
			const event = plan.events[at] as number;
			try {
				if ((event & 1) === 0) this.#issue(event >>> 1, (workload.events[number] as number) >>> 1);
				else this.#complete(event >>> 1);
			} catch (error) {
				if (!(error instanceof KernelCrash)) throw error;
				this.#crash = crashCause(error);
				return;
			}
			this.#hooks.onCommand?.();
		}
	}

	#entries({ first, before, data, after }: Command): readonly Entry[] {
		return this.#on.plan.entries.slice(first, first + before + data + after);
	}

	/** @param request the number of the command's request */
	#issue(number: number, request: number): void {
		const { plan, stage, workload } = this.#on;
		const { device, guest } = stage;
		const { moves = true, label } = this.#hooks;
		const command = plan.commands[number] as Command;
		const mapped: DmaAddr[] = [];
		for (const [i, { gpa, bytes, dir }] of this.#entries(command).entries()) {
			if (moves && dir === Direction.ToDevice) {
				const { audit } = guest.engine;
				if (audit !== null) audit.pen = label ?? null;
				guest.engine.ram.write(gpa, this.#dataOf(number, i, bytes));
				if (audit !== null) audit.pen = null;
			}
			const attrs = attrsOf(command, i);
			const dma = device.tryMap(gpa, bytes, dir as Direction, command.cpu, attrs);
			if (dma < 0) {
				const status = statusName(dma);
				if (this.#firstRefused === null) {
					const why = device.refusal({ gpa, bytes, dir: dir as Direction, attrs }, dma);
					this.#firstRefused = refusalNow(workload, request, dma, guest, why);
				}
				this.#unmap(command, mapped, Attr.SkipCpuSync);
				this.refused[number] = 1;
				this.#refused[status] = (this.#refused[status] ?? 0) + 1;
				return;
			}
			mapped.push(dma);
		}
		this.#live.set(number, mapped);
		this.#hooks.onIssued?.(number);
	}

	#complete(number: number): void {
		const mapped = this.#live.get(number);
		if (mapped === undefined) return;
		this.#live.delete(number);
		const { plan, stage } = this.#on;
		const command = plan.commands[number] as Command;
		const entries = this.#entries(command);
		const { moves = true } = this.#hooks;
		if (moves)
			for (const [i, { bytes, dir }] of entries.entries())
				this.#move(mapped[i] as DmaAddr, dir === Direction.ToDevice, this.#dataOf(number, i, bytes));
		this.#unmap(command, mapped, 0);
		this.#hooks.onDone?.(number);
		if (!moves) return;
		for (const [i, { gpa, bytes, dir }] of entries.entries()) {
			if (dir === Direction.ToDevice) continue;
			const wrongBytes = differing(stage.guest.engine.ram.read(gpa, bytes), this.#dataOf(number, i, bytes));
			if (wrongBytes > 0) this.#lost({ what: "write-lost" }, wrongBytes);
		}
	}

	/** The device's part: it reads what it was sent, or writes its answer. */
	#move(dma: DmaAddr, reads: boolean, data: Uint8Array): void {
		const { device, guest } = this.#on.stage;
		const { violations } = guest.parties;
		const before = violations.total;
		try {
			if (!reads) {
				device.write(dma, data);
				return;
			}
			const wrongBytes = differing(device.read(dma, data.length), data);
			if (wrongBytes === 0) return;
			const last = violations.total > before ? violations.list.at(-1) : undefined;
			this.#lost({ what: "device-gets", result: last?.result ?? "other bytes" }, wrongBytes);
		} catch (error) {
			this.#lost(accessCause(error), data.length);
		}
	}

	#lost(cause: Cause, bytes: number): void {
		this.#undelivered.add(cause);
		this.#wrongBytes += bytes;
	}

	#unmap(command: Command, mapped: readonly DmaAddr[], attrs: number): void {
		const { device } = this.#on.stage;
		for (const [i, dma] of mapped.entries()) {
			const { bytes, dir } = this.#on.plan.entries[command.first + i] as Entry;
			device.unmap(dma, bytes, dir as Direction, attrs | attrsOf(command, i));
		}
	}
}

/** Attributes of a command's entry: its data's are the request's, control structures have none. */
export function attrsOf({ before, data, attrs }: Command, entry: number): number {
	return entry >= before && entry < before + data ? attrs : 0;
}

/** How many bytes of two arrays of one length differ. */
function differing(a: Uint8Array, b: Uint8Array): number {
	let count = 0;
	for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) count++;
	return count;
}

/** Times drives. The device's part is its moves through its own view of memory, and is what they add. */
export class DriveTimes implements Driver {
	readonly kind = "typescript";
	readonly #on: Replay;
	readonly #dma: Sampler;
	readonly #total: Sampler;

	constructor(on: Replay) {
		this.#on = on;
		const [still, moving] = [new Drive(on, { moves: false }), new Drive(on)];
		this.#dma = new Sampler(() => still.run());
		this.#total = new Sampler(() => moving.run());
	}

	checked(): CheckedRun {
		const drive = new Drive(this.#on);
		const { wrongBytes, refused, firstRefused } = drive.run();
		return { wrongBytes, failures: refused, firstRefused, refused: drive.refused };
	}

	refuses(): boolean {
		return new Drive(this.#on, { moves: false }).run().firstRefused !== null;
	}

	warm(): void {
		this.#dma.warm();
		this.#total.warm();
	}

	pass(): Pass {
		const [totalNs, dmaNs] = [this.#total.sample(), this.#dma.sample()];
		return { dmaNs, totalNs, deviceNs: Math.max(0, totalNs - dmaNs) };
	}

	clockNs(): number {
		return clockCostNs(() => {});
	}

	eventTimes(): Float64Array {
		const drive = new Drive(this.#on, { moves: false });
		return Float64Array.from({ length: this.#on.workload.events.length }, (_, i) => {
			const start = performance.now();
			drive.event(i);
			return (performance.now() - start) * 1e6;
		});
	}
}
