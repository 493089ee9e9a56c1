/** A guest with SynICs for tests: RAM, pages in order, and everything that happens written down. */
import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import { GuestSynic, type ReceivedMessage, type RegisterWrite } from "../../src/synic/guest.ts";
import { GuestCalls } from "../../src/synic/guest-calls.ts";
import type { GuestPages } from "../../src/synic/guest-pages.ts";
import type { SynicInterrupt } from "../../src/synic/interrupts.ts";
import { type HypercallReport, SynicMachine } from "../../src/synic/machine.ts";
import type { SynicPlatform } from "../../src/synic/modes.ts";

const FIRST_PAGE = 0x100000;
const GIVEN_PAGES = 0x80000;

export const VTOM = 2 ** 46;
export const PLATFORMS: Readonly<Record<string, SynicPlatform>> = {
	bare: { isolation: "none", paravisor: false, sharedGpaBoundary: 0 },
	"SNP without paravisor": { isolation: "snp", paravisor: false, sharedGpaBoundary: 0 },
	"TDX without paravisor": { isolation: "tdx", paravisor: false, sharedGpaBoundary: 0 },
	VBS: { isolation: "vbs", paravisor: false, sharedGpaBoundary: VTOM },
	"SNP with paravisor": { isolation: "snp", paravisor: true, sharedGpaBoundary: VTOM },
	"TDX with paravisor": { isolation: "tdx", paravisor: true, sharedGpaBoundary: 2 ** 47 },
	"VBS with paravisor": { isolation: "vbs", paravisor: true, sharedGpaBoundary: VTOM },
};

/** Pages one after the other, and a log of what is done with them. `fail` names conversions that fail: "decrypt 2". */
export class LoggedPages implements GuestPages {
	readonly #engine: Engine;
	readonly log: string[] = [];
	readonly fail = new Set<string>();
	#next: number;
	#last: number;
	readonly #counts = { decrypt: 0, encrypt: 0 };

	constructor(engine: Engine, first = FIRST_PAGE, pages = 1000) {
		this.#engine = engine;
		this.#next = first;
		this.#last = first + pages * 4096;
	}

	alloc(pages: number, purpose: string): number {
		if (this.#next >= this.#last) return -1;
		const gpa = this.#next;
		this.#next += pages * 4096;
		this.log.push(`alloc ${gpa.toString(16)} ${purpose}`);
		this.#engine.ram.fill(gpa, pages * 4096, 0xaa);
		return gpa;
	}

	#convert(kind: "decrypt" | "encrypt", gpa: number, pages: number): boolean {
		const failed = this.fail.has(`${kind} ${++this.#counts[kind]}`);
		this.log.push(`${kind}${failed ? " fails" : ""} ${gpa.toString(16)}`);
		if (failed) return false;
		this.#engine.ram.convert(gpa, pages * 4096, kind === "decrypt" ? PageState.Shared : PageState.Private);
		this.#engine.ram.fill(gpa, pages * 4096, 0xdc);
		return true;
	}

	decrypt(gpa: number, pages: number): boolean {
		return this.#convert("decrypt", gpa, pages);
	}

	encrypt(gpa: number, pages: number): boolean {
		return this.#convert("encrypt", gpa, pages);
	}

	free(gpa: number): void {
		this.log.push(`free ${gpa.toString(16)}`);
	}

	leak(gpa: number): void {
		this.log.push(`leak ${gpa.toString(16)}`);
	}
}

export interface TestGuest {
	readonly engine: Engine;
	readonly pages: LoggedPages;
	readonly machine: SynicMachine;
	readonly guest: GuestSynic;
	/** The guest's calls, */
	readonly hv: GuestCalls;
	readonly writes: RegisterWrite[];
	/** and what became of them. */
	readonly calls: HypercallReport[];
	readonly interrupts: SynicInterrupt[];
	readonly messages: (ReceivedMessage & { vp: number })[];
	readonly events: { vp: number; flag: number; source: string }[];
	/** While true, interrupts are only written down. */
	held: boolean;
	/** What the interrupt handler does: by default it takes events, then messages. */
	onInterrupt: (vp: number) => void;
}

/** A guest whose processors are set up, unless told otherwise. */
export async function testGuest(
	platform: SynicPlatform,
	options: { confidential?: boolean; vps?: number; enabled?: boolean; autoEoi?: boolean; intercept?: boolean } = {},
): Promise<TestGuest> {
	const { vps = 2, confidential = false } = options;
	const isPrivate = platform.isolation !== "none";
	const engine = await Engine.create({ ram: "4M", swiotlb: null, coco: isPrivate });
	const pages = new LoggedPages(engine);
	const log = {
		writes: [] as RegisterWrite[],
		calls: [] as HypercallReport[],
		interrupts: [] as SynicInterrupt[],
		messages: [] as (ReceivedMessage & { vp: number })[],
		events: [] as { vp: number; flag: number; source: string }[],
	};
	const machine = new SynicMachine({
		platform,
		vps,
		ram: engine.ram,
		unknownConnectionIntercept: options.intercept ?? true,
		onInterrupt: (interrupt) => {
			log.interrupts.push(interrupt);
			if (!test.held) test.onInterrupt(interrupt.vp);
		},
		onHypercall: (report) => log.calls.push(report),
	});
	const common = { platform, confidential, vps, ram: engine.ram, pages };
	const calls = new GuestCalls({ ...common, hypercall: (call) => machine.hypercall(call) });
	const guest = new GuestSynic({
		...common,
		registers: machine,
		autoEoi: options.autoEoi ?? true,
		onRegisterWrite: (write) => log.writes.push(write),
	});
	const test: TestGuest = {
		engine,
		pages,
		machine,
		guest,
		hv: calls,
		...log,
		held: false,
		onInterrupt: (vp) => {
			guest.takeEvents(vp, (flag, source) => log.events.push({ vp, flag, source }));
			guest.takeMessages(vp, (message) => log.messages.push({ ...message, vp }));
		},
	};
	if (platform.paravisor) {
		engine.ram.convert(GIVEN_PAGES, vps * 8192, PageState.Shared);
		for (let vp = 0; vp < vps; vp++) machine.givePages(vp, GIVEN_PAGES + vp * 8192, GIVEN_PAGES + vp * 8192 + 4096);
	}
	if (options.enabled === false) return test;
	for (const status of [calls.allocateInputs(), calls.allocatePosts(), guest.allocate()])
		if (status !== "ok") throw new Error(status);
	for (let vp = 0; vp < vps; vp++) if (!guest.enable(vp)) throw new Error("not enabled");
	return test;
}
