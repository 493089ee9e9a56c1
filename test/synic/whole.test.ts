/** Guest and server over the two SynICs: each byte goes through hypercalls, message slots and event flags in guest RAM. */
import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine.ts";
import { PageState, RangeState } from "../../src/memory/ram.ts";
import { CallCode, controlWord, encodePost, encodeSignal } from "../../src/synic/hypercall.ts";
import type { SynicParty } from "../../src/synic/interrupts.ts";
import { type HypercallReport, SynicMachine } from "../../src/synic/machine.ts";
import type { MessagePort } from "../../src/synic/port.ts";
import { Msr } from "../../src/synic/registers.ts";
import { HvStatus } from "../../src/synic/status.ts";
import { VmbusGuest } from "../../src/vmbus/guest/guest.ts";
import type { GuestPorts } from "../../src/vmbus/guest/options.ts";
import { EnginePages } from "../../src/vmbus/guest/pages.ts";
import type { ServerAction } from "../../src/vmbus/server/actions.ts";
import { VmbusServer } from "../../src/vmbus/server/server.ts";
import { OfferFlag, Version } from "../../src/vmbus/wire/versions.ts";
import { completionOf, device } from "../vmbus/server-guest.ts";
import { PLATFORMS } from "./synic-machine.ts";

const GIVEN_GPA = 0x100000;
const GUEST_GPA = 0x200000;
const CONFIDENTIAL_LEAF = 1 << 3;
const VPS = 2;

interface Whole {
	readonly engine: Engine;
	readonly machine: SynicMachine;
	readonly guest: VmbusGuest;
	readonly server: VmbusServer;
	readonly calls: HypercallReport[];
	readonly opened: ServerAction[];
	offer(n: number, flags?: number): void;
}

/** A guest on the platform and a server on the host's side or the paravisor's. */
async function whole(name: string, serving: SynicParty, confidential = false): Promise<Whole> {
	const platform = PLATFORMS[name] as (typeof PLATFORMS)[string];
	const engine = await Engine.create({ ram: "16M", swiotlb: null, coco: platform.isolation !== "none" });
	const calls: HypercallReport[] = [];
	const opened: ServerAction[] = [];
	const machine: SynicMachine = new SynicMachine({
		platform,
		vps: VPS,
		ram: engine.ram,
		onInterrupt: ({ vp }) => guest.interrupt(vp),
		onHypercall: (report) => calls.push(report),
	});
	if (platform.paravisor) {
		engine.ram.convert(GIVEN_GPA, VPS * 8192, PageState.Shared);
		for (let vp = 0; vp < VPS; vp++) machine.givePages(vp, GIVEN_GPA + vp * 8192, GIVEN_GPA + vp * 8192 + 4096);
	}
	const server = new VmbusServer({ confidential });
	const slots = new Map<number, MessagePort>();
	const perform = (actions: readonly ServerAction[]): void => {
		for (const action of actions) {
			if (action.type === "send") {
				const { vp, sint } = action.target;
				const port = slots.get(vp) ?? machine.guestPort(serving, vp, sint);
				slots.set(vp, port);
				expect(port.post(1, action.payload)).toBe(HvStatus.SUCCESS);
			}
			if (action.type === "open") opened.push(action);
			const completion = completionOf(action);
			if (completion !== null) perform(server.complete(completion));
		}
	};
	for (const id of [1, 4]) {
		machine.connections[serving].bindMessages(id, {
			post: (_, payload, { trusted }) => {
				const { status, actions } = server.post({ connectionId: id, payload, trusted });
				perform(actions);
				return status;
			},
		});
	}
	const ports: GuestPorts = {
		post: (connectionId, type, payload, path) => {
			const control = controlWord(CallCode.PostMessage, false);
			const input = encodePost({ connectionId, type, payload });
			return Number(machine.hypercall({ vp: 0, path, control, input }));
		},
		signal: (connectionId, flag, path) => {
			const control = controlWord(CallCode.SignalEvent, true);
			machine.hypercall({ vp: 0, path, control, input: encodeSignal({ connectionId, flag }) });
		},
		eom: (cpu, party) => machine.writeRegister(cpu, party, Msr.EOM, 0n),
		writeMsr: (cpu, party, msr, value) => machine.writeRegister(cpu, party, msr, value),
		readMsr: (cpu, party, msr) => machine.readRegister(cpu, party, msr) ?? 0n,
	};
	const guest = new VmbusGuest({
		engine,
		ports,
		isolation: platform.isolation,
		paravisor: platform.paravisor,
		sharedGpaBoundary: platform.sharedGpaBoundary,
		cpus: VPS,
		confidential: { how: "cpuid", eax: confidential ? CONFIDENTIAL_LEAF : 0 },
		pages: EnginePages.over(engine, [{ gpa: GUEST_GPA, bytes: 0x800000 }]),
	});
	return {
		engine,
		machine,
		guest,
		server,
		calls,
		opened,
		offer(n, flags = 0) {
			const made = server.offer(device(n, { flags }));
			if (typeof made === "string") throw new Error(made);
			perform(made.actions);
		},
	};
}

const ROWS = [
	["bare", "hypervisor", false, "direct"],
	["SNP without paravisor", "hypervisor", false, "direct"],
	["TDX without paravisor", "hypervisor", false, "direct"],
	["SNP with paravisor", "hypervisor", false, "ghcb"],
	["SNP with paravisor", "paravisor", false, "ghcb"],
	["TDX with paravisor", "paravisor", false, "tdcall"],
	["SNP with paravisor", "paravisor", true, "direct"],
	["TDX with paravisor", "paravisor", true, "direct"],
] as const;

describe("a guest and a server over the SynICs", () => {
	it.each(ROWS)("connect, offer, open and unload: %s, served by the %s, confidential %s", async (...row) => {
		const [name, serving, confidential, path] = row;
		const { engine, guest, server, calls, opened, offer } = await whole(name, serving, confidential);
		const before = engine.ram.pagesInState(PageState.Shared);
		// offers fill the slot while the guest is busy with the first
		for (let n = 1; n <= 20; n++) offer(n, confidential ? OfferFlag.ConfidentialRingBuffer : 0);
		expect(guest.connect().status).toBe("ok");
		expect(server.connection).toMatchObject({
			name: "Connected",
			info: { version: Version.V6_0, trusted: confidential, offersSent: true },
		});
		expect(server.channels.every(({ state }) => state.name === "Closed")).toBe(true);
		expect(guest.open(3, { sendPages: 4, receivePages: 4 }).status).toBe("ok");
		const [open] = opened;
		if (open?.type !== "open") throw new Error("not opened");
		expect(open.ringPages).toBe(confidential ? "private" : "shared");
		const ring = server.gpadls(open.offerId)[0]?.ranges[0]?.pfns ?? [];
		expect(ring).toHaveLength(8);
		const states = ring.map((pfn) => engine.ram.rangeState(pfn * 4096, 4096));
		expect(new Set(states)).toEqual(new Set([confidential ? RangeState.Private : RangeState.Shared]));
		expect(guest.close(3).status).toBe("ok");
		expect(guest.unload().status).toBe("ok");
		expect(server.connection.name).toBe("Disconnected");
		expect(engine.ram.pagesInState(PageState.Shared)).toBe(before);
		expect(engine.ram.pagesInState(PageState.Leaked)).toBe(0);
		const posts = calls.filter(({ code }) => code === CallCode.PostMessage);
		expect(new Set(posts.map((call) => `${call.path} ${call.by} ${call.trusted}`))).toEqual(
			new Set([`${path} ${serving} ${confidential}`]),
		);
	});
});
