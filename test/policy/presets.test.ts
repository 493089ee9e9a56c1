import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { GuestDevice } from "../../src/coco/guest/device.ts";
import type { Guest } from "../../src/coco/guest/guest.ts";
import { KernelCrash, UndefinedBehavior } from "../../src/coco/rules/policy.ts";
import { PREDICATES } from "../../src/coco/rules/predicate.ts";
import { PageState } from "../../src/memory/ram.ts";
import { changesOf } from "../../src/policy/changes.ts";
import { MODIFIERS } from "../../src/policy/modifiers.ts";
import { parsePolicy } from "../../src/policy/parse.ts";
import { PRESETS } from "../../src/policy/presets.ts";
import { SCENARIOS, scenarioNamed } from "../../src/policy/scenarios.ts";
import { cellText } from "../../src/report/verdict.ts";
import { statusName } from "../../src/status.ts";
import type { Cell } from "../../src/study/cell.ts";
import { headerOf, runMatrix } from "../../src/study/matrix.ts";
import { makeStage, type StageOptions } from "../../src/study/stage.ts";
import { Attr, Direction } from "../../src/types.ts";
import { tlbOf } from "../helpers/slots.ts";

const { ToDevice, FromDevice } = Direction;

/** A stage that must not be refused. */
async function stageOf(
	policy: string,
	scenario: string,
	options: Partial<StageOptions> = {},
): Promise<{ guest: Guest; device: GuestDevice }> {
	const stage = await makeStage(parsePolicy(policy), scenarioNamed(scenario), options);
	if (stage.refused !== null) throw new Error(JSON.stringify(stage.refused));
	return stage;
}

interface Outcome {
	/** direct, the kind of the pool that bounced, or a status. */
	readonly how: string;
	/** Whether the device got the bytes that the driver wrote. */
	readonly read: boolean;
}

/** Maps a page for the device, which reads it. */
function mapPage({ guest, device }: { guest: Guest; device: GuestDevice }, dir: Direction = ToDevice): Outcome {
	const gpa = guest.pages.alloc(1);
	guest.engine.ram.fill(gpa, 4096, 0x5a);
	const used = guest.pools.map(({ pool }) => pool.used);
	const dma = device.tryMap(gpa, 4096, dir);
	if (dma < 0) return { how: statusName(dma), read: false };
	const pool = guest.pools.find((each, i) => each.pool.used > (used[i] as number));
	let read = false;
	try {
		read = device.read(dma, 4096).every((byte) => byte === 0x5a);
	} catch {}
	device.unmap(dma, 4096, dir);
	return { how: pool?.kind ?? "direct", read };
}

/** State of a coherent buffer's page, or the refusal. */
function coherent({ guest, device }: { guest: Guest; device: GuestDevice }, atomic = false): string {
	const got = device.allocCoherent(4096, { atomic });
	if (!got.ok) return got.status;
	return guest.engine.ram.pageState(got.gpa) === PageState.Private ? "private" : "shared";
}

describe("the list of proposals", () => {
	it("has each name once", () => {
		for (const list of [PRESETS, MODIFIERS]) expect(new Set(list.map(({ name }) => name)).size).toBe(list.length);
	});

	it("gives each preset its source as exactly as it is known, with an address where there is one", () => {
		for (const { name, references = [] } of PRESETS) expect(references.length, name).toBeGreaterThan(0);
		for (const { name, references = [] } of [...PRESETS, ...MODIFIERS])
			for (const { kind, title, url, messageId, date } of references) {
				expect(title, name).not.toBe("");
				if (url !== undefined) expect(url, name).toMatch(/^https:\/\/[^\s"'<>]+$/);
				if (messageId !== undefined) expect(url, name).toBe(`https://lore.kernel.org/all/${messageId}/`);
				if (kind === "mail") expect(date, name).toMatch(/^\d{4}-\d{2}(-\d{2})?$/);
				if (kind === "code") expect(url, name).toMatch(/\/tree\/[\w/.-]+\?h=v\d+\.\d+$/);
			}
	});

	it("names the kernel's file and function of each predicate that a preset changes", () => {
		for (const policy of PRESETS) {
			const changes = changesOf(policy);
			for (const name of Object.keys(policy.predicates ?? {})) {
				const { call } = PREDICATES.find((predicate) => predicate.name === name) as (typeof PREDICATES)[number];
				const change = changes.find((each) => each.call === call);
				expect(change?.references, `${policy.name}: ${name}`).not.toEqual([]);
				expect(change?.references[0]?.title).toMatch(/^Linux \d+\.\d+ \S+\.[chS], \w+/);
			}
		}
		const changed = (name: string) => changesOf(parsePolicy(name).policy).map(({ call }) => call);
		expect(changed("driver-flag")).toContain("phys_to_dma(dev, phys)");
		expect(changed("bus-ops")).toEqual(expect.arrayContaining(["dma_alloc_attrs(dev)", "dma_sync_*(dev)"]));
		expect(changed("rfc-v3")).toEqual([]);
	});

	it("has presets of one mail ask one predicate, and say so of each other", () => {
		const alike = ["accepted-three", "accepted-five", "two-allocators", "two-allocators-default"];
		for (const name of alike) {
			const { asks, asksAlike } = headerOf(parsePolicy(name));
			expect([name, asks]).toEqual([name, "device_cc_accepted(dev)"]);
			expect(asksAlike).toEqual(alike.filter((other) => other !== name));
		}
	});

	it("names a modifier beside the policy, with its own source", () => {
		const { modifiers } = headerOf(parsePolicy("cc-accepted+force+strict"));
		expect(modifiers.map(({ name }) => name)).toEqual(["force", "strict"]);
		for (const { title, source, references } of modifiers)
			expect([title, source, references.length > 0]).toEqual([
				expect.stringMatching(/./),
				expect.stringMatching(/./),
				true,
			]);
	});

	it("is numbered nowhere: no list of ours stands for a mail", () => {
		const root = new URL("../../", import.meta.url);
		const files = ["README.md", "CONTRIBUTING.md", ...["src", "docs", "examples"].flatMap(filesBelow)];
		for (const file of files)
			expect([file, readFileSync(new URL(file, root), "utf8").match(/\bP(?:\d|[12]\d)\b/)]).toEqual([file, null]);

		function filesBelow(folder: string): string[] {
			return readdirSync(new URL(folder, root), { recursive: true, withFileTypes: true })
				.filter((entry) => entry.isFile())
				.map((entry) => relative(fileURLToPath(root), join(entry.parentPath, entry.name)));
		}
	});

	it("is in the documentation, name by name", () => {
		const text = readFileSync(new URL("../../docs/policies.md", import.meta.url), "utf8");
		for (const { name } of [...PRESETS, ...MODIFIERS]) expect(text).toContain(`\`${name}\``);
	});

	it("tells for each what it does and where it is from, in a line", () => {
		for (const { name, title, source } of [...PRESETS, ...MODIFIERS]) {
			for (const text of [title, source]) {
				expect(text, name).not.toContain("\n");
				expect(text.length, name).toBeGreaterThan(10);
			}
		}
	});
});

describe("presets", () => {
	it("rfc-v3 decides exactly as force-bounce for every device: a comparison assigns nothing", async () => {
		// an offer that is refused brings no device about
		for (const { name } of SCENARIOS.filter((scenario) => scenario.name !== "storvsc-external-only")) {
			const [before, after] = await Promise.all([stageOf("force-bounce", name), stageOf("rfc-v3", name)]);
			expect(mapPage(after), name).toEqual(mapPage(before));
			expect(coherent(after), name).toBe(coherent(before));
			expect(after.device.answers).toEqual(before.device.answers);
		}
		const { device } = await stageOf("rfc-v3", "storvsc-full");
		expect([device.accepted, device.believed, device.pool?.kind]).toEqual([true, true, "default"]);
	});

	it("null-pool-early changes nothing either: device_initialize stores the pool again", async () => {
		expect(mapPage(await stageOf("null-pool-early", "storvsc-full"))).toEqual({ how: "default", read: true });
	});

	it("null-pool maps directly, and its coherent memory is still decrypted", async () => {
		const stage = await stageOf("null-pool", "storvsc-full");
		expect(mapPage(stage)).toEqual({ how: "direct", read: true });
		expect(coherent(stage)).toBe("shared");
		expect(mapPage(await stageOf("null-pool", "storvsc-ring"))).toEqual({ how: "default", read: true });
		expect(mapPage(await stageOf("null-pool+mask-32", "storvsc-full")).how).toBe("BEYOND_MASK");
	});

	it("null-pool-restricted crashes in is_swiotlb_for_alloc, for coherent memory only", async () => {
		const stage = await stageOf("null-pool-restricted", "storvsc-full");
		expect(mapPage(stage).how).toBe("direct");
		for (const atomic of [false, true]) {
			let where = "";
			try {
				stage.device.allocCoherent(4096, { atomic });
			} catch (error) {
				if (error instanceof KernelCrash) where = error.where;
			}
			expect(where).toBe("is_swiotlb_for_alloc");
		}
		expect(coherent(await stageOf("null-pool-restricted", "storvsc-ring"))).toBe("shared");
	});

	it("driver-flag is storvsc's to set, from its offer: no other device is touched", async () => {
		expect(mapPage(await stageOf("driver-flag", "storvsc-full"))).toEqual({ how: "direct", read: true });
		for (const scenario of ["storvsc-ring", "storvsc-plain", "legacy-virtio", "tdisp-nvme"])
			expect(mapPage(await stageOf("driver-flag", scenario)).how, scenario).toBe("default");
		// phys_to_dma drops the C-bit: the address is plain
		const stage = await stageOf("driver-flag", "storvsc-full-c-bit");
		const gpa = stage.guest.pages.alloc(1);
		expect(stage.device.map(gpa, 4096, ToDevice)).toBe(gpa);
	});

	it("driver-flag-misuse takes any driver's word: a device that is not trusted is given private memory that it cannot read", async () => {
		expect(mapPage(await stageOf("driver-flag-misuse", "legacy-virtio"))).toEqual({ how: "direct", read: false });
		expect(mapPage(await stageOf("driver-flag-misuse", "tdisp-nvme"))).toEqual({ how: "direct", read: true });
		const stage = await stageOf("driver-flag-misuse", "legacy-virtio");
		stage.device.setNoBounce(false);
		expect(mapPage(stage)).toEqual({ how: "default", read: true });
		const dma = stage.device.map(stage.guest.pages.alloc(1), 4096, FromDevice);
		stage.device.setNoBounce(true);
		expect(stage.guest.hazards.map(({ what }) => what)).toEqual(["TRUST_CHANGED"]);
		stage.device.unmap(dma, 4096, FromDevice);
		expect(stage.guest.pools[0]?.pool.used).toBe(0);
	});

	it("bus-ops gives plain addresses without a limit, and no device coherent memory or a sync", async () => {
		const stage = await stageOf("bus-ops", "storvsc-full");
		const gpa = stage.guest.pages.alloc(1);
		expect(stage.device.map(gpa, 4096, ToDevice)).toBe(gpa);
		expect(mapPage(stage)).toEqual({ how: "direct", read: true });
		expect(stage.device.dma.maxMappingBytes(2 ** 32)).toBe(Number.POSITIVE_INFINITY);
		for (const scenario of ["storvsc-full", "storvsc-plain", "legacy-virtio", "tdisp-nvme"])
			for (const atomic of [false, true])
				expect(coherent(await stageOf("bus-ops", scenario), atomic), scenario).toBe("NO_ALLOC_OPERATION");
		expect(mapPage(await stageOf("bus-ops+force", "storvsc-full")).how).toBe("direct");
		const plain = await stageOf("bus-ops", "storvsc-plain");
		expect(mapPage(plain).how).toBe("default");
		const page = plain.guest.pages.alloc(1);
		const dma = plain.device.map(page, 4096, FromDevice);
		plain.device.write(dma, new Uint8Array(4096).fill(7));
		plain.device.syncForCpu(dma, 4096, FromDevice);
		expect(plain.guest.engine.ram.read(page, 1)).not.toEqual(Uint8Array.of(7));
		plain.device.unmap(dma, 4096, FromDevice);
		expect(plain.guest.engine.ram.read(page, 1)).toEqual(Uint8Array.of(7));
	});

	it("bus-ops takes a device that is on no VMBus for one that is: undefined, and said so", async () => {
		for (const scenario of ["legacy-virtio", "tdisp-nvme", "restricted-pool"]) {
			const stage = await stageOf("bus-ops", scenario);
			expect(() => stage.device.tryMap(stage.guest.pages.alloc(1), 4096, ToDevice), scenario).toThrow(
				UndefinedBehavior,
			);
		}
		const { rows } = await runMatrix({ policies: ["bus-ops"], scenarios: ["legacy-virtio"], cost: false });
		const cell = rows[0]?.cells[0];
		expect(cell?.kind).toBe("undefined");
		expect(cellText(cell as Cell)).toMatch(/^undefined: the VMBus's DMA operations: container_of/);
	});

	it("accepted-three leaves forced bouncing, accepted-five does not", async () => {
		for (const scenario of ["storvsc-full", "tdisp-nvme"]) {
			expect(mapPage(await stageOf("accepted-three", scenario)), scenario).toEqual({ how: "default", read: true });
			const five = await stageOf("accepted-five", scenario);
			expect(mapPage(five), scenario).toEqual({ how: "direct", read: true });
			expect(coherent(five), scenario).toBe("private");
		}
		expect(mapPage(await stageOf("accepted-five", "tdisp-nvme-32")).how).toBe("BEYOND_MASK");
		expect(mapPage(await stageOf("accepted-five", "legacy-virtio")).how).toBe("default");
	});

	it("accepted-three sends an accepted non-coherent device's atomic allocation where it may sleep", async () => {
		const stage = await stageOf("accepted-three", "tdisp-non-coherent");
		const got = stage.device.allocCoherent(4096, { atomic: true });
		expect(got.ok && got.source).toBe("pages");
		expect(stage.guest.hazards.map(({ what }) => what)).toContain("SLEEPING_IN_ATOMIC");
		const before = await stageOf("force-bounce", "tdisp-non-coherent");
		const atomic = before.device.allocCoherent(4096, { atomic: true });
		expect(atomic.ok && atomic.source).toBe("atomic");
	});

	it("two-allocators bounces accepted devices in the private one; left at the default, others end up there too", async () => {
		const forced = await stageOf("two-allocators+force", "tdisp-nvme");
		expect(mapPage(forced)).toEqual({ how: "private", read: true });
		expect(mapPage(await stageOf("two-allocators", "legacy-virtio"))).toEqual({ how: "default", read: true });
		expect(mapPage(await stageOf("two-allocators-default", "legacy-virtio"))).toEqual({ how: "private", read: false });
	});

	it("private-pool bounces what an accepted device's mask does not reach without showing it", async () => {
		expect(mapPage(await stageOf("private-pool", "tdisp-nvme-32", { platform: "snp-vtom" }))).toEqual({
			how: "private",
			read: true,
		});
		// the C-bit is beyond the mask in the private pool as well
		expect(mapPage(await stageOf("private-pool", "tdisp-nvme-32")).how).toBe("SLOTS_BEYOND_MASK");
		expect(mapPage(await stageOf("private-pool+force", "tdisp-non-coherent"))).toEqual({ how: "private", read: true });
	});

	it("cc-accepted and linux-7.3 refuse what they would have to bounce in a pool of the wrong state", async () => {
		expect(mapPage(await stageOf("cc-accepted", "tdisp-nvme"))).toEqual({ how: "direct", read: true });
		expect(mapPage(await stageOf("cc-accepted+force", "tdisp-nvme")).how).toBe("POOL_STATE");
		expect(mapPage(await stageOf("cc-accepted", "storvsc-full")).how).toBe("default");
		expect(mapPage(await stageOf("cc-accepted-bus", "storvsc-full")).how).toBe("direct");
		expect(mapPage(await stageOf("linux-7.3", "tdisp-nvme"))).toEqual({ how: "default", read: true });
	});

	it("request-wins leaves pKVM's restricted pool private, so that its device reads nothing; pool-wins does not", async () => {
		expect(mapPage(await stageOf("request-wins", "restricted-pool"))).toEqual({ how: "restricted", read: false });
		expect(mapPage(await stageOf("pool-wins", "restricted-pool"))).toEqual({ how: "restricted", read: true });
		expect(mapPage(await stageOf("request-wins", "restricted-pool", { platform: "cca" }))).toEqual({
			how: "restricted",
			read: true,
		});
		// the modifiers are the same switch
		expect(mapPage(await stageOf("linux-7.3+request-wins", "restricted-pool")).read).toBe(false);
		expect(mapPage(await stageOf("cc-accepted+pool-wins+force", "tdisp-nvme"))).toEqual({ how: "default", read: true });
	});

	it("pool-matcher and capable-codes choose the private pool, and the wrong remedy the shared one", async () => {
		for (const policy of ["pool-matcher", "capable-codes"])
			expect(mapPage(await stageOf(policy, "tdisp-nvme-32", { platform: "snp-vtom" })).how, policy).toBe("private");
		expect(mapPage(await stageOf("capable-codes-shared", "tdisp-nvme-32"))).toEqual({ how: "default", read: true });
		expect(mapPage(await stageOf("pool-matcher", "legacy-virtio")).how).toBe("default");
	});

	it("pool-matcher has no pool for an accepted device whose own pools are all of the wrong state", async () => {
		const { device } = await stageOf("pool-matcher+accepted", "restricted-pool", { platform: "cca" });
		expect(device.pool).toBeNull();
	});

	it("c-bit-decrypted bounces a mask below the C-bit in the decrypted pool, c-bit-fail refuses it", async () => {
		expect(mapPage(await stageOf("c-bit-decrypted", "tdisp-nvme-32"))).toEqual({ how: "default", read: true });
		expect(mapPage(await stageOf("c-bit-fail", "tdisp-nvme-32")).how).toBe("BEYOND_MASK");
		for (const policy of ["c-bit-decrypted", "c-bit-fail"])
			expect(mapPage(await stageOf(policy, "tdisp-nvme", { platform: "snp" })).how, policy).toBe("direct");
	});

	it("paravisor-bounce keeps the host out of its slots, where the platform has such pages", async () => {
		const { guest, device } = await stageOf("paravisor-bounce", "storvsc-full");
		const dma = device.map(guest.pages.alloc(1), 4096, ToDevice);
		expect(guest.engine.ram.pageState(tlbOf(dma))).toBe(PageState.Hidden);
		const refused = await makeStage(parsePolicy("paravisor-bounce"), scenarioNamed("restricted-pool"));
		expect(refused.refused).toEqual({ what: "not-applicable", needs: "hidden-pages" });
	});

	it("bus-pool serves its bus, 2 MiB of it, and says so", async () => {
		const { guest, device } = await stageOf("bus-pool", "storvsc-plain");
		expect([device.pool?.kind, device.pool?.pool.bytes]).toEqual(["bus", 2 ** 21]);
		expect(guest.messages.join("\n")).toContain("2 MiB");
	});
});

describe("modifiers", () => {
	it("strict answers an error for an accepted device that would bounce, and leaves the others", async () => {
		expect(mapPage(await stageOf("rfc-v3+strict", "storvsc-full")).how).toBe("NO_POOL");
		expect(mapPage(await stageOf("rfc-v3+strict", "storvsc-ring")).how).toBe("default");
	});

	it("advisory lets through what strict, the pool's state and a bound driver would refuse", async () => {
		expect(mapPage(await stageOf("rfc-v3+advisory+strict", "storvsc-full")).how).toBe("default");
		expect(mapPage(await stageOf("cc-accepted+force+advisory", "tdisp-nvme")).how).toBe("default");
		const { device } = await stageOf("cc-accepted+advisory", "tdisp-nvme");
		device.trust?.reject("advice");
		expect(device.accepted).toBe(false);
	});

	it("fallback leaves the offer without claims, no-fallback without a device", async () => {
		const { device } = await stageOf("null-pool+fallback", "storvsc-full");
		expect([device.accepted, device.offer?.ring]).toEqual([false, "shared"]);
		const stage = await makeStage(parsePolicy("null-pool+no-fallback"), scenarioNamed("storvsc-full"));
		expect(stage.refused).toEqual({ what: "no-fallback" });
		expect((await makeStage(parsePolicy("null-pool+no-fallback"), scenarioNamed("tdisp-nvme"))).refused).toBeNull();
	});

	it("accepted is for devices that may have a TDISP interface", async () => {
		const { device } = await stageOf("cc-accepted+accepted", "legacy-virtio");
		expect(device.t).toBe(1);
		const stage = await makeStage(parsePolicy("cc-accepted+accepted"), scenarioNamed("storvsc-ring"));
		expect(stage.refused).toEqual({ what: "not-applicable", needs: "tdisp-interface" });
	});

	it("keep-present lets a stray read end the guest, where the platform would have unmapped the page", async () => {
		for (const [policy, outcome] of [
			["force-bounce", "zero-padded"],
			["force-bounce+keep-present", "unhandled"],
		] as const) {
			const { guest } = await stageOf(policy, "legacy-virtio", { platform: "cca" });
			const gpa = guest.pages.alloc(2);
			let seen = "";
			guest.converter.onTransition = (_gpa, _bytes, step) => {
				if (step === "host") seen = guest.converter.strayRead(gpa + 4096 - 4).outcome;
			};
			guest.converter.convert(gpa + 4096, 4096, PageState.Shared);
			expect(seen, policy).toBe(outcome);
		}
		await stageOf("force-bounce+keep-present", "legacy-virtio");
	});

	it("zero-on-free leaves nothing in freed slots of any pool", async () => {
		for (const [policy, scenario] of [
			["force-bounce", "legacy-virtio"],
			["bus-pool", "legacy-virtio"],
			["force-bounce", "restricted-pool"],
		] as const) {
			const stage = await stageOf(`${policy}+zero-on-free`, scenario);
			const { guest } = stage;
			expect(mapPage(stage).read).toBe(true);
			for (const { pool } of guest.pools)
				expect(guest.engine.ram.view(pool.start, pool.bytes).includes(0x5a), policy).toBe(false);
		}
	});

	it("pre-shared and mmio-shared are what drivers do, and stand in the setup", () => {
		expect(parsePolicy("force-bounce+pre-shared").policy.preSharedPercent).toBe(90);
		expect(parsePolicy("linux-7.3+mmio-shared").mmioShared).toBe(true);
	});

	it("does not change with the order of modifiers", () => {
		const one = parsePolicy("cc-accepted+strict+share-in-place+mask-32+advisory");
		const other = parsePolicy("cc-accepted+advisory+mask-32+share-in-place+strict");
		expect({ ...one, name: "", modifiers: [] }).toEqual({ ...other, name: "", modifiers: [] });
		expect(new Set(one.modifiers)).toEqual(new Set(other.modifiers));
		expect(one.name).toBe("cc-accepted+strict+share-in-place+mask-32+advisory");
	});
});

describe("pool-wins", () => {
	it("takes no attribute of a map into account", async () => {
		const stage = await stageOf("pool-wins", "legacy-virtio");
		const gpa = stage.guest.pages.alloc(1);
		stage.guest.converter.convert(gpa, 4096, PageState.Shared);
		const before = stage.device.dma.counters.bouncedMaps;
		stage.device.map(gpa, 4096, ToDevice, 0, Attr.CcShared);
		expect(stage.device.dma.counters.bouncedMaps).toBe(before + 1);
	});
});
