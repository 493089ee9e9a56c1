/**
 * Hostile parties over the SynICs. One case is one seed: a whole system, in which either the host or the guest's kernel does
 * what it likes. What must hold: nothing throws, nothing touches pages that its party may not touch, every wait ends, and
 * nothing is left after the end.
 */
import { PageState } from "../../src/memory/ram.ts";
import { CallCode, controlWord, encodePost, encodeSignal } from "../../src/synic/hypercall.ts";
import type { CallPath } from "../../src/synic/modes.ts";
import { Msr, sintMsr, VMBUS_SINT } from "../../src/synic/registers.ts";
import type { GuestCommand } from "../../src/vmbus/guest/options.ts";
import { VmbusSystem } from "../../src/vmbus/system/system.ts";
import { encodeMessage } from "../../src/vmbus/wire/codec.ts";
import { DeviceType } from "../../src/vmbus/wire/guid.ts";
import { MessageType as M, type Message } from "../../src/vmbus/wire/messages.ts";
import { Random } from "../helpers/random.ts";
import { KINDS } from "./pair-machine.ts";
import { contact, device, gpadlBody, gpadlHeader, openChannel } from "./server-guest.ts";

/** Steps of a case. */
export const STEPS = 50;
const RAM_BYTES = 2 ** 22;
/** RAM that is nobody's: from here to the pages that the paravisor has placed, and from behind them to the guest's own. */
const CANARIES = [
	[0x1000, 0x7f000],
	[0x84000, 0x7c000],
] as const;
const CANARY = 0xc5;
/** Longer than any wait (ns). */
const LONG = 1e12;

/** How often cases reached what matters. */
export type Seen = Map<string, number>;

function note(seen: Seen, what: string): void {
	seen.set(what, (seen.get(what) ?? 0) + 1);
}

/** What went wrong, with the seed that shows it again. */
export class FuzzFailure extends Error {}

function fail(what: string): never {
	throw new FuzzFailure(what);
}

async function systemOf(kind: string): Promise<VmbusSystem> {
	const options = KINDS[kind] as (typeof KINDS)[string];
	const system = await VmbusSystem.create({ ...options, vps: 2, ramBytes: RAM_BYTES, lazy: true, records: false });
	for (const [gpa, bytes] of CANARIES) system.engine.ram.fill(gpa, bytes, CANARY);
	return system;
}

function checkCanaries({ engine }: VmbusSystem): void {
	for (const [gpa, bytes] of CANARIES)
		if (engine.ram.view(gpa, bytes).some((byte) => byte !== CANARY))
			fail("someone has written to pages that are nobody's");
}

/** Does what is due, however it goes on; a system in which it never ends is wrong. */
function settle(system: VmbusSystem): void {
	for (let i = 0; system.due > 0; i++) {
		if (i > 20_000) fail("devices' work never ends");
		system.step();
	}
}

/** Any message of a server. */
function serverMessage(random: Random): Message {
	const relid = random.oneIn(8) ? random.u32() : random.below(8);
	const gpadl = random.oneIn(6) ? random.u32() : 0xe1e10 + random.below(16);
	const status = random.oneIn(3) ? random.u32() : 0;
	switch (random.below(9)) {
		case 0:
		case 1:
			return {
				type: M.OfferChannel,
				...device(random.below(6), { interfaceId: DeviceType.Network }),
				flags: random.oneIn(3) ? random.below(65536) : 0,
				mmioMegabytes: 0,
				mmioMegabytesOptional: 0,
				userData: random.bytes(120),
				subChannelIndex: random.oneIn(3) ? random.below(4) : 0,
				relid,
				monitorId: random.below(256),
				monitorAllocated: random.below(2),
				dedicatedInterrupt: random.below(2),
				connectionId: random.u32(),
			} as Message;
		case 2:
			return { type: M.RescindChannelOffer, relid };
		case 3:
			return { type: M.OpenChannelResult, relid, openId: random.oneIn(4) ? random.u32() : relid, status };
		case 4:
			return { type: M.GpadlCreated, relid, gpadl, status };
		case 5:
			return { type: M.GpadlTorndown, gpadl };
		case 6:
			return { type: M.ModifyChannelResponse, relid, status };
		case 7: {
			const [supported, connectionState] = [random.below(3), random.below(4)];
			return { type: M.VersionResponse, supported, connectionState, connectionIdOrVersion: random.u32() };
		}
		default:
			return { type: random.oneIn(4) ? M.UnloadResponse : M.AllOffersDelivered };
	}
}

/** Any message of a guest. */
function guestMessage(random: Random): Message {
	const relid = random.oneIn(8) ? random.u32() : random.below(6);
	const gpadl = random.oneIn(8) ? random.u32() : random.below(8);
	// pages of the guest, of nobody, of the paravisor, and none
	const pfn = random.oneIn(4) ? random.below(2 ** 20) : 0x100 + random.below(0x300);
	switch (random.below(13)) {
		case 0:
			return contact(random.pick([0x60000, 0x60000, 0x50003, 0x20004, 0x10001, random.u32()]), random.below(256) & ~8);
		case 1:
			return { type: M.RequestOffers };
		case 2:
		case 3:
			return gpadlHeader(relid, gpadl, random.between(1, 40), pfn);
		case 4:
			return gpadlBody(gpadl, pfn, random.between(1, 28));
		case 5:
		case 6: {
			const more = { targetVp: random.below(4), downstreamPage: random.below(20) };
			const signal = { connectionId: random.below(0x3000), eventFlag: random.below(4096), openFlags: random.below(2) };
			return openChannel(relid, gpadl, { ...more, ...(random.oneIn(3) ? signal : {}) });
		}
		case 7:
			return { type: M.CloseChannel, relid };
		case 8:
			return { type: M.GpadlTeardown, relid, gpadl };
		case 9:
			return { type: M.RelidReleased, relid };
		case 10:
			return { type: M.ModifyChannel, relid, targetVp: random.below(8) };
		case 11:
			return { type: random.pick([M.Pause, M.Resume] as const) };
		default:
			return { type: random.oneIn(3) ? M.Unload : M.RequestOffers };
	}
}

/** Bytes of a message: whole, cut, or with some of them changed. */
function mangled(random: Random, message: Message): Uint8Array {
	const bytes = encodeMessage(message);
	if (random.oneIn(4)) return bytes.subarray(0, random.between(0, bytes.length));
	for (let n = random.oneIn(2) ? random.below(4) : 0; n > 0; n--) bytes[random.below(bytes.length)] = random.below(256);
	return bytes;
}

/** Overwrites some bytes of pages that the host may write. */
function scribble(system: VmbusSystem, random: Random): void {
	const { ram } = system.engine;
	const pages = system.runs.flatMap(({ gpa, pages }) => Array.from({ length: pages }, (_, i) => gpa + 4096 * i));
	const shared = pages.filter((gpa) => ram.pageState(gpa) === PageState.Shared);
	if (shared.length === 0) return;
	const gpa = random.pick(shared);
	// the words of a ring's header, of a slot, of any place
	const at = random.pick([4 * random.below(20), 512 + random.below(32), random.below(4080)]);
	ram.view(gpa + at, 16).set(random.bytes(random.below(17)));
}

/** A guest that means well, and a host that does not. */
export async function hostileHost(kind: string, seed: number, seen: Seen): Promise<void> {
	const random = new Random(seed);
	const system = await systemOf(kind);
	const { guest, host, machine, paravisor } = system;
	const commands: GuestCommand[] = [];
	const ports = [0, 1].map((vp) => machine.guestPort("hypervisor", vp, VMBUS_SINT));
	for (let n = 1; n <= 3; n++) {
		const flags = random.pick([0, 2, 6]);
		(random.oneIn(2) ? host : (paravisor ?? host)).offer(device(n, { interfaceId: DeviceType.Network, flags }));
	}
	system.startRelay();
	commands.push(guest.connect());
	if (!random.oneIn(4)) settle(system);
	for (let step = 0; step < STEPS; step++) {
		const relid = random.pick([...guest.channels.keys(), 1]);
		switch (random.below(16)) {
			case 0:
			case 1:
				random.pick(ports).post(random.oneIn(6) ? random.u32() : 1, mangled(random, serverMessage(random)));
				break;
			case 2:
				random.pick(ports).post(1, random.bytes(random.below(241)));
				break;
			case 3:
				machine.signalGuest("hypervisor", random.below(3), VMBUS_SINT, random.oneIn(3) ? random.u32() : relid);
				break;
			case 4:
			case 5:
				scribble(system, random);
				break;
			case 6:
				// the host's SynIC is the host's: it may point it anywhere
				if (system.platform.paravisor && random.oneIn(3)) {
					const gpa = BigInt(random.below(RAM_BYTES / 4096 + 4) * 4096 + system.platform.sharedGpaBoundary);
					machine.hypervisor.writeRegister(random.below(2), random.pick([Msr.SIMP, Msr.SIEFP]), gpa | 1n);
				} else guest.interrupt(random.below(3));
				break;
			case 7: {
				const { channels } = host.server;
				if (random.oneIn(2) && channels.length > 0) host.revoke(random.pick(channels).offerId);
				else host.offer(device(random.below(6), { interfaceId: DeviceType.Network, flags: random.pick([0, 2, 6]) }));
				break;
			}
			case 8:
				commands.push(
					guest.open(relid, { sendPages: random.between(2, 5), receivePages: 2, requests: random.below(3) }),
				);
				break;
			case 9:
				commands.push(random.oneIn(2) ? guest.close(relid) : guest.unbind(relid));
				break;
			case 10:
				commands.push(guest.gpadl(relid, random.between(1, 40)));
				break;
			case 11:
				commands.push(guest.gpadlDown(relid, 0xe1e10 + random.below(12)));
				break;
			case 12:
				system.send(relid, random.bytes(random.below(200)), { wantsCompletion: random.oneIn(2), id: BigInt(step) });
				break;
			case 13:
				commands.push(random.oneIn(3) ? guest.modify(relid, random.below(3)) : guest.connect());
				break;
			case 14:
				if (random.oneIn(10)) commands.push(guest.unload());
				else system.wait(random.oneIn(12) ? LONG : 1000);
				break;
			default:
				for (let n = random.below(6); n > 0 && system.due > 0; n--) system.step(random.below(system.due));
		}
	}
	checkCanaries(system);
	endGuest(system, commands, random.oneIn(2));
	for (const { name, status } of commands) note(seen, `${name} ${status}`);
}

/** Ends the connection of a guest. @param answers whether its host still answers */
function endGuest(system: VmbusSystem, commands: GuestCommand[], answers: boolean): void {
	const { guest, pages, engine, platform } = system;
	commands.push(guest.unload());
	for (let i = 0; i < 5; i++) {
		if (answers) settle(system);
		system.wait(LONG);
	}
	const waiting = commands.filter(({ status }) => status === undefined);
	if (waiting.length > 0) fail(`${waiting.map(({ name }) => name).join(", ")} never ended: ${guest.waits.join("; ")}`);
	if (guest.waits.length > 0) fail(`a wait goes on: ${guest.waits.join("; ")}`);
	if (guest.channels.size + guest.primaries.length + guest.pendingRequests > 0) fail("channels or requests are left");
	guest.dispose();
	if (pages.used !== 0)
		fail(`${pages.used} pages are still in use: ${pages.runs.map((run) => run.purpose).join(", ")}`);
	if (platform.isolation === "none") return;
	const placed = platform.paravisor ? 4 : 0;
	const shared = engine.ram.pagesInState(PageState.Shared);
	if (shared !== placed) fail(`${shared} pages are shared at the end, not ${placed}`);
}

/** Servers that mean well, and a guest's kernel that does not: it never runs our guest side. */
export async function hostileGuest(kind: string, seed: number, seen: Seen): Promise<void> {
	const random = new Random(seed);
	const system = await systemOf(kind);
	const { engine, machine, host, paravisor, platform } = system;
	const { ram } = engine;
	const serving = paravisor ?? host;
	for (let n = 1; n <= 4; n++)
		serving.offer(device(n, { interfaceId: DeviceType.Network, flags: random.pick([0, 2, 6]), monitorId: "any" }));
	if (system.relay !== null) host.offer(device(9, { interfaceId: DeviceType.Scsi }));
	system.startRelay();
	const party = paravisor === null ? "hypervisor" : "paravisor";
	const path: CallPath =
		platform.paravisor && paravisor === null ? (platform.isolation === "snp" ? "ghcb" : "tdcall") : "direct";
	const firstFree = 0x200000;
	// a SynIC, so that answers arrive somewhere
	for (const vp of [0, 1]) {
		for (const [msr, page] of [
			[Msr.SIMP, 0],
			[Msr.SIEFP, 1],
		] as const) {
			const gpa = firstFree + (2 * vp + page) * 4096;
			if (!platform.paravisor && platform.isolation !== "none") ram.convert(gpa, 4096, PageState.Shared);
			if (party === "paravisor" || !platform.paravisor) machine.writeRegister(vp, party, msr, BigInt(gpa | 1));
		}
		machine.writeRegister(vp, party, sintMsr(VMBUS_SINT), 0xf3n);
		machine.writeRegister(vp, party, Msr.SCONTROL, 1n);
	}
	const post = (payload: Uint8Array, by: CallPath, connectionId: number) => {
		const input = encodePost({ connectionId, type: 1, payload });
		machine.hypercall({ vp: 0, path: by, control: controlWord(CallCode.PostMessage, false), input });
	};
	const paths = ["direct", "ghcb", "tdcall"] as const;
	/** A channel as a driver would open it; later steps write into its rings and convert their pages. */
	const openRings = (step: number) => {
		const relid = random.between(1, 5);
		const gpadl = 100 + step;
		const pfn = 0x100 + random.below(0x70);
		// a private channel's device takes private pages only
		if (platform.isolation !== "none")
			ram.convert(pfn * 4096, 8 * 4096, random.oneIn(2) ? PageState.Shared : PageState.Private);
		ram.fill(pfn * 4096, 8 * 4096, 0);
		post(encodeMessage(gpadlHeader(relid, gpadl, 8, pfn)), path, 1);
		settle(system);
		post(encodeMessage(openChannel(relid, gpadl, { downstreamPage: 4 })), path, 1);
		if (random.oneIn(2)) settle(system);
	};
	// most cases get as far as a connection
	if (!random.oneIn(5)) {
		post(encodeMessage(contact(0x60000, 0xf7)), path, 4);
		settle(system);
		post(encodeMessage({ type: M.RequestOffers }), path, 1);
	}
	for (let step = 0; step < STEPS; step++) {
		switch (random.below(12)) {
			case 0:
				if (!random.oneIn(3)) openRings(step);
				break;
			case 1:
			case 2:
			case 3:
			case 4:
				post(
					mangled(random, guestMessage(random)),
					random.oneIn(8) ? random.pick(paths) : path,
					random.oneIn(8) ? 4 : 1,
				);
				break;
			case 5: {
				const flag = random.oneIn(3) ? random.below(65536) : 0;
				const connectionId = random.oneIn(3) ? random.u32() : 0x2000 + random.below(8);
				const input = encodeSignal({ connectionId, flag });
				const by = random.oneIn(3) ? random.pick(paths) : path;
				machine.hypercall({ vp: random.below(3), path: by, control: controlWord(CallCode.SignalEvent, true), input });
				break;
			}
			case 6: {
				// any control word, any input
				const control = BigInt(random.u32()) | (BigInt(random.u32()) << 32n);
				const input = random.oneIn(2) ? random.bytes(random.below(300)) : BigInt(random.u32());
				machine.hypercall({ vp: 0, path: random.pick(paths), control: random.oneIn(2) ? control : 0x5cn, input });
				break;
			}
			case 7: {
				// whatever the guest's kernel may write, it writes: rings under a device, pages of its own
				const gpa = 0x100000 + 4096 * random.below(0x80);
				const at = random.pick([4 * random.below(20), random.below(4080)]);
				ram.view(gpa + at, 16).set(random.bytes(16));
				break;
			}
			case 8:
				if (platform.isolation !== "none") {
					const gpa = 0x100000 + 4096 * random.below(0x80);
					ram.convert(gpa, 4096, random.pick([PageState.Shared, PageState.Private, PageState.Hidden]));
				}
				break;
			case 9: {
				const msr = random.pick([Msr.SIMP, Msr.SIEFP, Msr.SCONTROL, Msr.EOM, sintMsr(random.below(16)), random.u32()]);
				const value = random.oneIn(2) ? BigInt(random.u32()) : BigInt(firstFree | 1);
				machine.writeRegister(random.below(3), random.oneIn(3) ? "hypervisor" : party, msr, value);
				break;
			}
			case 10: {
				// its slot is free again
				ram.view(firstFree + 512, 4).fill(0);
				machine.writeRegister(0, party, Msr.EOM, 0n);
				break;
			}
			default:
				for (let n = random.below(6); n > 0 && system.due > 0; n--) system.step(random.below(system.due));
		}
	}
	settle(system);
	note(seen, serving.server.connection.name);
	for (const { state } of serving.server.channels) note(seen, `channel ${state.name}`);
	// whatever the guest names, a host has no way to what is private; a paravisor has
	if (platform.isolation !== "none" && paravisor === null) checkCanaries(system);
	// the VM resets: nothing of it is left
	for (const vsp of [serving, host]) {
		vsp.perform(vsp.server.reset());
		settle(system);
	}
	for (const { server } of [serving, host]) {
		if (server.connection.name !== "Disconnected") fail(`the server is ${server.connection.name} after a reset`);
		for (const { offerId, state } of server.channels) {
			if (state.name !== "ClientReleased") fail(`channel ${offerId} is ${state.name} after a reset`);
			if (server.gpadls(offerId).length > 0) fail(`channel ${offerId} has GPADLs after a reset`);
		}
	}
}
