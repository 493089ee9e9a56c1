import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BufferAllocator } from "../../src/workload/pages.ts";
import { compilePlan, STORE_BYTES } from "../../src/workload/plan.ts";
import { DEVICE_PRESETS, devicePresetNamed } from "../../src/workload/presets.ts";
import type { Workload } from "../../src/workload/workload.ts";

const MIB = 2 ** 20;
const STRETCHES = [
	{ gpa: 16 * MIB, bytes: 32 * MIB },
	{ gpa: 2 ** 32, bytes: 32 * MIB },
];
const CONTROL = { gpa: 0, bytes: MIB };

function workload(sizes: readonly number[], read = false): Workload {
	const requests = sizes.map((bytes, i) => ({ read, bytes, sector: i * 1000, cpu: i % 4 }));
	const events = Uint32Array.from(requests.flatMap((_, i) => [i * 2, i * 2 + 1]));
	const timesNs = Float64Array.from(events, (_, i) => i * 1000);
	return { name: "w", requests, events, timesNs, counters: {} as never, cpus: 4 };
}

function plan(sizes: readonly number[], device: string, maxMapping: number, contiguity = 4, read = false) {
	const pages = new BufferAllocator(STRETCHES, contiguity, 7);
	const memory = { pages, control: CONTROL, maxMappingBytes: maxMapping };
	return compilePlan(workload(sizes, read), devicePresetNamed(device), memory);
}

describe("the page allocator", () => {
	it("gives the bytes asked for, page-aligned, in RAM, and never a page twice", () => {
		fc.assert(
			fc.property(fc.integer(), fc.array(fc.integer({ min: 1, max: 300_000 }), { maxLength: 60 }), (seed, sizes) => {
				const pages = new BufferAllocator(STRETCHES, 4, seed);
				const live = new Set<number>();
				for (const [i, bytes] of sizes.entries()) {
					const runs = pages.take(bytes) ?? [];
					expect(runs.reduce((sum, run) => sum + run.bytes, 0)).toBe(bytes);
					for (const { gpa, bytes: n } of runs) {
						expect(gpa % 4096).toBe(0);
						expect(STRETCHES.some((s) => gpa >= s.gpa && gpa + n <= s.gpa + s.bytes)).toBe(true);
						for (let at = gpa; at < gpa + n; at += 4096) {
							expect(live.has(at)).toBe(false);
							live.add(at);
						}
					}
					if (i % 3 !== 0) continue;
					pages.give(runs);
					for (const { gpa, bytes: n } of runs) for (let at = gpa; at < gpa + n; at += 4096) live.delete(at);
				}
			}),
			{ numRuns: 60 },
		);
	});

	it("gives runs of about the mean that was asked for", () => {
		for (const contiguity of [1, 4, 16]) {
			const pages = new BufferAllocator(STRETCHES, contiguity, 3);
			let runs = 0;
			for (let i = 0; i < 200; i++) {
				const taken = pages.take(256 * 4096) ?? [];
				runs += taken.length;
				pages.give(taken);
			}
			const mean = (200 * 256) / runs;
			expect(mean).toBeGreaterThan(contiguity * 0.85);
			expect(mean).toBeLessThan(contiguity * 1.15);
		}
	});

	it("repeats itself from the same seed and differs from another", () => {
		const take = (seed: number) => new BufferAllocator(STRETCHES, 4, seed).take(MIB);
		expect(take(1)).toEqual(take(1));
		expect(take(1)).not.toEqual(take(2));
	});

	it("says that memory is out, and has it all again when everything is given back", () => {
		const pages = new BufferAllocator(STRETCHES, 4, 1);
		const all = pages.take(64 * MIB) ?? [];
		expect(pages.take(1)).toBeUndefined();
		pages.give(all);
		expect(pages.take(64 * MIB)).toBeDefined();
	});
});

describe("a compiled plan", () => {
	it("keeps every preset's limits and loses no byte", () => {
		for (const preset of DEVICE_PRESETS) {
			for (const maxMapping of [262144, 258048, Number.POSITIVE_INFINITY]) {
				const sizes = [512, 4096, 12288, 258048, 262144, 300000 - (300000 % 512), 4 * MIB];
				const { commands, entries } = plan(sizes, preset.name, maxMapping, 64);
				let bytes = 0;
				for (const command of commands) {
					const data = entries.slice(command.first + command.before, command.first + command.before + command.data);
					const total = data.reduce((sum, entry) => sum + entry.bytes, 0);
					bytes += total;
					expect(data.length).toBeLessThanOrEqual(preset.maxSegments);
					expect(total).toBeLessThanOrEqual(
						preset.limitsRequest ? Math.min(maxMapping, preset.maxRequestBytes) : preset.maxRequestBytes,
					);
					for (const entry of data)
						expect(entry.bytes).toBeLessThanOrEqual(Math.min(preset.maxSegmentBytes, maxMapping));
				}
				expect(bytes).toBe(sizes.reduce((a, b) => a + b));
			}
		}
	});

	it("gives virtio-blk a 16 B header out before the data and a 1 B status in after it", () => {
		const { commands, entries } = plan([8192], "virtio-blk", 262144, 64);
		expect(commands).toMatchObject([{ before: 1, after: 1, dir: 1 }]);
		expect(entries[0]).toMatchObject({ bytes: 16, dir: 1 });
		expect(entries.at(-1)).toMatchObject({ bytes: 1, dir: 2 });
		expect((entries.at(-1)?.gpa ?? 0) - (entries[0]?.gpa ?? 0)).toBe(16);
	});

	it("maps writes TO_DEVICE and reads FROM_DEVICE, and nothing but data for nvme and ahci", () => {
		for (const device of ["nvme", "ahci"]) {
			for (const read of [false, true]) {
				const { commands, entries } = plan([4096], device, 262144, 4, read);
				expect(commands).toMatchObject([{ before: 0, after: 0, dir: read ? 2 : 1 }]);
				expect(entries).toMatchObject([{ bytes: 4096, dir: read ? 2 : 1 }]);
			}
		}
	});

	it("keeps every move inside the device's store", () => {
		const { entries } = plan([64 * 4096, 8 * MIB, 512], "nvme", Number.POSITIVE_INFINITY);
		for (const { store, bytes } of entries) expect(store + bytes).toBeLessThanOrEqual(STORE_BYTES);
	});

	it("says which request finds no memory", () => {
		const requests = [
			{ read: false, bytes: 64 * MIB, sector: 0, cpu: 0 },
			{ read: false, bytes: 4096, sector: 1, cpu: 0 },
		];
		const both: Workload = {
			name: "w",
			requests,
			events: Uint32Array.of(0, 2, 1, 3),
			timesNs: new Float64Array(4),
			counters: {} as never,
			cpus: 1,
		};
		const pages = new BufferAllocator(STRETCHES, 4, 1);
		const memory = { pages, control: CONTROL, maxMappingBytes: 262144 };
		expect(() => compilePlan(both, devicePresetNamed("nvme"), memory)).toThrow(
			"w: request 1 of 4096 bytes finds no free page: give it more --ram",
		);
	});
});
