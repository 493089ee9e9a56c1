/** Linux's own register writes, conversions of SynIC pages, hypercall paths, retries and EOMs, against ours. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { Isolation, SynicPlatform } from "../../src/synic/modes.ts";
import type { MessagePort } from "../../src/synic/port.ts";
import { Msr, VMBUS_SINT, VMBUS_VECTOR } from "../../src/synic/registers.ts";
import { PostRetry } from "../../src/synic/retry.ts";
import { HvStatus } from "../../src/synic/status.ts";
import { MessageType } from "../../src/vmbus/wire/messages.ts";
import { recordingText } from "../helpers/golden.ts";
import { type TestGuest, testGuest } from "./synic-machine.ts";

const GOLDEN = fileURLToPath(new URL("../golden/vmbus/", import.meta.url));
const ISOLATIONS: readonly Isolation[] = ["none", "vbs", "snp", "tdx"];
const PATHS = { hc: "direct", ghcb: "ghcb", tdcall: "tdcall" } as const;

const bytes = (text = "") => Uint8Array.from(Buffer.from(text, "hex"));

/** The guest that a transcript's first line describes; a paravisor's pages are where the recorded one had them. */
async function recordedGuest(lines: readonly string[]): Promise<TestGuest> {
	const hello = Object.fromEntries((lines[0] as string).split(" ").map((word) => word.split("=")));
	const platform: SynicPlatform = {
		isolation: ISOLATIONS[Number(hello.iso)] as Isolation,
		paravisor: hello.paravisor === "1",
		sharedGpaBoundary: Number.parseInt(hello.vtom, 16),
	};
	const test = await testGuest(platform, { vps: Number(hello.cpus), enabled: false });
	const allocated = (what: string) =>
		lines
			.filter((line) => line.startsWith("G ALLOC") && line.endsWith(what))
			.map((line) => line.split(" ")[2] as string);
	const events = allocated("paravisor_siefp");
	for (const [vp, messages] of allocated("paravisor_simp").entries()) {
		const [simp, siefp] = [Number.parseInt(messages, 16), Number.parseInt(events[vp] as string, 16)];
		for (const gpa of [simp, siefp]) test.engine.ram.convert(gpa, 4096, 0);
		test.machine.givePages(vp, simp, siefp);
	}
	const order = [...allocated("hypercall_input"), ...allocated("hv_synic_alloc")].map((gpa) =>
		Number.parseInt(gpa, 16),
	);
	test.pages.alloc = () => order.shift() ?? -1;
	return test;
}

class Replay {
	readonly #test: TestGuest;
	readonly #lines: readonly string[];
	readonly #ports = new Map<number, MessagePort>();
	#retry: PostRetry | null = null;
	#isOpen = false;
	counts = { writes: 0, eoms: 0, posts: 0, signals: 0, messages: 0, events: 0, delays: 0, pages: 0 };

	constructor(test: TestGuest, lines: readonly string[]) {
		this.#test = test;
		this.#lines = lines;
	}

	run(): void {
		expect(this.#test.hv.allocateInputs()).toBe("ok");
		for (const [i, line] of this.#lines.entries()) this.#step(line.split(" "), i);
	}

	#step([side, verb, ...args]: readonly string[], at: number): void {
		if (side !== "G") this.#expectNoWrites(at);
		if (side === "G") this.#guest(verb as string, args, at);
		else if (verb === "MSG") this.#message(bytes(args[0]), Number(args[1] ?? 0));
		else if (verb === "HVMSG") this.#slot(bytes(args[0]));
		else if (verb === "EVENT") this.#event(Number(args[0]), Number(args[1] ?? 0));
		else if (verb === "hold") this.#test.held = true;
		else if (verb === "release") {
			this.#test.held = false;
			for (const { vp } of this.#test.interrupts.splice(0))
				this.#test.machine.interrupts.during(() => this.#test.onInterrupt(vp));
		}
	}

	#expectNoWrites(at: number): void {
		expect(this.#hypervisorWrites(), `line ${at + 1}`).toEqual([]);
	}

	#hypervisorWrites() {
		const { writes } = this.#test;
		while (writes[0]?.synic === "paravisor") writes.shift();
		return writes;
	}

	#guest(verb: string, args: readonly string[], at: number): void {
		const test = this.#test;
		if (verb === "EOM" || verb === "WRMSR") {
			const [vp, msr, value] = [Number(args[0]), args[1], args[2]];
			if (verb === "WRMSR" && this.#hypervisorWrites().length === 0) this.#setUp(vp, msr === "40000083");
			const write = this.#hypervisorWrites().shift();
			const expected = verb === "EOM" ? [Msr.EOM, "0"] : [Number.parseInt(msr as string, 16), value];
			expect([write?.vp, write?.msr, write?.value.toString(16)], `line ${at + 1}`).toEqual([vp, ...expected]);
			this.counts[verb === "EOM" ? "eoms" : "writes"]++;
		} else if (verb === "ALLOC" && args[2] === "hv_synic_alloc" && !this.#isOpen) {
			expect([test.hv.allocatePosts(), test.guest.allocate()]).toEqual(["ok", "ok"]);
			this.#isOpen = true;
		} else if (verb === "DECRYPT" || verb === "ENCRYPT") this.#conversion(verb, args[0] as string);
		else if (verb === "POST") this.#post(args, at);
		else if (verb === "SIGNAL") {
			const [connectionId, flag] = [Number.parseInt(args[0] as string, 16), Number(args[1])];
			test.hv.signal(0, connectionId, flag);
			expect(test.calls.pop()).toMatchObject({ connectionId, body: flag, path: path(args[2]) });
			this.counts.signals++;
		}
	}

	/** The first write of a processor decides which way it goes; pages go back after the last is down. */
	#setUp(vp: number, isEnabling: boolean): void {
		if (isEnabling) expect(this.#test.guest.enable(vp)).toBe(true);
		else this.#test.guest.disable(vp);
	}

	/** Conversions of the pages that are ours: hypercall input and SynIC. */
	#conversion(verb: string, gpa: string): void {
		const { pages, guest, hv } = this.#test;
		const logged = () => pages.log.filter((line) => line === `${verb.toLowerCase()} ${gpa}`).length;
		if (verb === "ENCRYPT" && pages.log.includes(`decrypt ${gpa}`) && logged() === 0) {
			guest.free();
			hv.freePosts();
		}
		if (pages.log.includes(`decrypt ${gpa}`)) {
			expect(logged()).toBe(1);
			this.counts.pages++;
		}
	}

	#post(args: readonly string[], at: number): void {
		const { hv, machine, calls } = this.#test;
		const rest = this.#lines.slice(at + 1);
		const answer = rest.findIndex((line) => line.startsWith("H RET"));
		const status = Number(rest[answer]?.split(" ")[2]) as HvStatus;
		const [connection, payload] = [Number.parseInt(args[0] as string, 16), bytes(args[2])];
		const table = machine.connections.hypervisor;
		if (status !== HvStatus.INVALID_CONNECTION_ID) table.bindMessages(connection, { post: () => status });
		expect(hv.post(0, connection, Number(args[1]), payload), `line ${at + 1}`).toBe(status);
		table.unbind(connection);
		expect(calls.pop()).toMatchObject({
			connectionId: connection,
			body: payload,
			path: path(args[3]),
			by: "hypervisor",
		});
		this.counts.posts++;
		this.#retry ??= new PostRetry(payload[0] === MessageType.InitiateContact);
		const step = this.#retry.next(status);
		const next = rest.slice(answer + 1).find((line) => line.startsWith("G ")) ?? "";
		const delay = step.state === "wait" ? `G DELAY ${step.us} ${step.sleeps ? "sleep" : "busy"}` : "no delay";
		if (next.startsWith("G DELAY")) this.counts.delays++;
		expect(next.startsWith("G DELAY") ? next : "no delay", `line ${at + 1}`).toBe(delay);
		if (step.state !== "wait" || !this.#retry.mayTry) this.#retry = null;
	}

	#message(payload: Uint8Array, vp: number): void {
		const { machine, messages, held } = this.#test;
		const port = this.#ports.get(vp) ?? machine.guestPort("hypervisor", vp, VMBUS_SINT);
		this.#ports.set(vp, port);
		const status = port.post(1, payload);
		if (held || status === HvStatus.INVALID_SYNIC_STATE) return;
		expect(messages.at(-1)).toMatchObject({ type: 1, payload, source: "hypervisor", vp });
		this.counts.messages++;
	}

	/** The host writes a whole slot, as it likes, and raises the interrupt. */
	#slot(slot: Uint8Array): void {
		const { engine, machine } = this.#test;
		const simp = Number((machine.hypervisor.readRegister(0, Msr.SIMP) as bigint) & ~0xfffn);
		engine.ram.write(simp + VMBUS_SINT * 256, slot);
		machine.interrupts.raise({
			vp: 0,
			vector: VMBUS_VECTOR,
			sint: 2,
			source: "hypervisor",
			proxied: false,
			autoEoi: true,
		});
		const [type] = engine.ram.read(simp + VMBUS_SINT * 256, 4);
		expect(type).toBe(0);
	}

	#event(flag: number, vp: number): void {
		const { machine, events } = this.#test;
		const before = events.length;
		const status = machine.signalGuest("hypervisor", vp, VMBUS_SINT, flag);
		expect(status).toBe(flag < 2048 ? HvStatus.SUCCESS : HvStatus.INVALID_PARAMETER);
		const expected = flag > 0 && flag < 2048 ? [{ vp, flag, source: "hypervisor" }] : [];
		expect(events.slice(before)).toEqual(expected);
		this.counts.events++;
	}
}

function path(name = ""): string {
	return PATHS[name as keyof typeof PATHS];
}

describe("SynIC and hypercalls of the recorded guests", () => {
	const files = readdirSync(GOLDEN).filter((name) => name.endsWith(".txt.gz"));
	const totals: Record<string, number> = {};

	it.each(files)("are ours, register by register and path by path: %s", async (file) => {
		const lines = recordingText(join(GOLDEN, file)).trimEnd().split("\n");
		const replay = new Replay(await recordedGuest(lines), lines);
		replay.run();
		const recorded = lines.filter((line) => line.startsWith("G WRMSR")).length;
		expect(replay.counts.writes).toBe(recorded);
		for (const [name, count] of Object.entries(replay.counts)) totals[name] = (totals[name] ?? 0) + count;
	});

	it("were all there", () => {
		expect(totals.eoms).toBe(7);
		expect(totals.delays).toBeGreaterThan(100);
		for (const name of ["writes", "posts", "signals", "messages", "events", "pages"])
			expect(totals[name], name).toBeGreaterThan(20);
	});
});
