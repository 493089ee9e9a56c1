/** Runs a workload's plan through a device's DMA API, command by command, and the device's own part with it. */
import type { Label } from "../audit/audit.ts";
import { CipherUnavailable } from "../coco/platform/ciphertext.ts";
import { AccessFault } from "../coco/platform/violations.ts";
import { KernelCrash } from "../coco/rules/policy.ts";
import { statusName } from "../status.ts";
import { Attr, Direction } from "../types.ts";
import type { Command, Entry } from "../workload/plan.ts";
import { type Cause, crashCause } from "./cause.ts";
import type { ReplayStage } from "./replay-stage.ts";

/** What a drive came to. */
export interface DriveResult {
	readonly commands: number;
	/** Commands refused, by status. */
	readonly refused: Readonly<Record<string, number>>;
	/** Where the kernel ended, or null. What came behind is not run, and what was mapped stays. */
	readonly crash: Cause | null;
	/** Entries whose bytes did not arrive, by what the device or the guest got instead. */
	readonly undelivered: Readonly<Record<string, number>>;
	readonly sharedInPlace: number;
}

export interface DriveHooks {
	/** Whether drivers write data before a write, and the device moves bytes. Default true: else only the DMA layer works. */
	readonly moves?: boolean;
	/** The label of what drivers write. */
	readonly label?: Label;
	/** Called before each event of the trace, with its time since the start (ns). */
	readonly onEvent?: (number: number, timeNs: number) => void;
	/** Called after each command was issued or completed. */
	readonly onCommand?: () => void;
}

/** Entries' data start within so many bytes of the drive's data. */
const DATA_STARTS = 2 ** 16;

/** A plan under way on a device. */
export class Drive {
	readonly #on: ReplayStage;
	readonly #hooks: DriveHooks;
	/** What requests carry, each from another place of it. */
	readonly #data: Uint8Array;
	/** DMA addresses of the commands under way, in the order of their entries. */
	readonly #live = new Map<number, number[]>();
	readonly #refused: Record<string, number> = {};
	readonly #undelivered: Record<string, number> = {};
	#crash: Cause | null = null;

	constructor(on: ReplayStage, hooks: DriveHooks = {}) {
		this.#on = on;
		this.#hooks = hooks;
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
			crash: this.#crash,
			undelivered: this.#undelivered,
			sharedInPlace: stage.device.conversions,
		};
	}

	/** Runs one event of the trace. */
	event(number: number): void {
		const { plan } = this.#on;
		const end = plan.eventStarts[number + 1] as number;
		for (let at = plan.eventStarts[number] as number; at < end; at++) {
			const event = plan.events[at] as number;
			try {
				if ((event & 1) === 0) this.#issue(event >>> 1);
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

	#issue(number: number): void {
		const { plan, stage } = this.#on;
		const { device, guest } = stage;
		const { moves = true, label } = this.#hooks;
		const command = plan.commands[number] as Command;
		const mapped: number[] = [];
		for (const [i, { gpa, bytes, dir }] of this.#entries(command).entries()) {
			if (moves && dir === Direction.ToDevice) {
				const { audit } = guest.engine;
				if (audit !== null) audit.pen = label ?? null;
				guest.engine.ram.write(gpa, this.#dataOf(number, i, bytes));
				if (audit !== null) audit.pen = null;
			}
			const dma = device.tryMap(gpa, bytes, dir as Direction, command.cpu, attrsOf(command, i));
			if (dma < 0) {
				this.#unmap(command, mapped, Attr.SkipCpuSync);
				const status = statusName(dma);
				this.#refused[status] = (this.#refused[status] ?? 0) + 1;
				return;
			}
			mapped.push(dma);
		}
		this.#live.set(number, mapped);
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
				this.#note(this.#moved(mapped[i] as number, dir === Direction.ToDevice, this.#dataOf(number, i, bytes)));
		this.#unmap(command, mapped, 0);
		if (!moves) return;
		for (const [i, { gpa, bytes, dir }] of entries.entries()) {
			if (dir === Direction.ToDevice) continue;
			if (!same(stage.guest.engine.ram.read(gpa, bytes), this.#dataOf(number, i, bytes)))
				this.#note("the driver reads other bytes");
		}
	}

	/** The device's part: it reads what it was sent, or writes its answer. @returns what went wrong, or null */
	#moved(dma: number, reads: boolean, data: Uint8Array): string | null {
		const { device, guest } = this.#on.stage;
		const before = guest.parties.violations.total;
		try {
			if (!reads) device.write(dma, data);
			else if (!same(device.read(dma, data.length), data)) {
				const got =
					guest.parties.violations.total > before ? guest.parties.violations.list.at(-1)?.result : "other bytes";
				return `the device gets ${got}`;
			}
			return null;
		} catch (error) {
			if (error instanceof AccessFault) return `the device is stopped: ${error.violation.what}`;
			if (error instanceof CipherUnavailable) return "the device gets ciphertext";
			throw error;
		}
	}

	#note(what: string | null): void {
		if (what !== null) this.#undelivered[what] = (this.#undelivered[what] ?? 0) + 1;
	}

	#unmap(command: Command, mapped: readonly number[], attrs: number): void {
		const { device } = this.#on.stage;
		for (const [i, dma] of mapped.entries()) {
			const { bytes, dir } = this.#on.plan.entries[command.first + i] as Entry;
			device.unmap(dma, bytes, dir as Direction, attrs | attrsOf(command, i));
		}
	}
}

/** Attributes of a command's entry: its data's are the request's, control structures have none. */
function attrsOf({ before, data, attrs }: Command, entry: number): number {
	return entry >= before && entry < before + data ? attrs : 0;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
	return Buffer.compare(a, b) === 0;
}
