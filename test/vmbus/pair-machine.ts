/** Both sides over the SynICs, for random histories: what is offered, opened and sent, and what must hold between. */
import { expect } from "vitest";
import { PageState } from "../../src/memory/ram.ts";
import { multiPageRange, PacketType } from "../../src/ring/packet.ts";
import { HvStatus } from "../../src/synic/status.ts";
import { ECHO, EchoCommand } from "../../src/vmbus/devices/echo.ts";
import type { GuestChannel } from "../../src/vmbus/guest/channel.ts";
import type { GuestCommand } from "../../src/vmbus/guest/options.ts";
import type { SystemOptions } from "../../src/vmbus/system/options.ts";
import { platformOf } from "../../src/vmbus/system/options.ts";
import { VmbusSystem } from "../../src/vmbus/system/system.ts";
import type { Vsp } from "../../src/vmbus/system/vsp.ts";
import { DeviceType } from "../../src/vmbus/wire/guid.ts";
import { OfferFlag } from "../../src/vmbus/wire/versions.ts";
import type { Random } from "../helpers/random.ts";
import { device } from "./server-guest.ts";

const CPUID = { how: "cpuid", eax: 1 << 3 } as const;
const CONFIDENTIAL = { paravisorServes: true, confidential: CPUID } as const;

/** Every kind of system. */
export const KINDS: Readonly<
	Record<string, Pick<SystemOptions, "platform" | "paravisorServes" | "relays" | "confidential">>
> = {
	"no isolation": { platform: platformOf("none", false) },
	"SNP alone": { platform: platformOf("snp", false) },
	"VBS alone": { platform: platformOf("vbs", false) },
	"TDX past a paravisor": { platform: platformOf("tdx", true) },
	"SNP, confidential": { platform: platformOf("snp", true), ...CONFIDENTIAL },
	"TDX, confidential": { platform: platformOf("tdx", true), ...CONFIDENTIAL },
	"SNP, relayed": { platform: platformOf("snp", true), ...CONFIDENTIAL, relays: true },
};

const FLAGS = [
	0,
	OfferFlag.ConfidentialRingBuffer,
	OfferFlag.ConfidentialRingBuffer | OfferFlag.ConfidentialExternalMemory,
];
/** What a guest shares with its host, by the purpose that it says when it takes the pages. */
const NEVER_SHARED = ["interrupt page"];

export class Pair {
	readonly system: VmbusSystem;
	readonly #random: Random;
	readonly commands: GuestCommand[] = [];
	/** Payloads that wait for their completion, by channel and id. */
	readonly #sent = new Map<GuestChannel, Map<bigint, Uint8Array>>();
	echoed = 0;
	#nextId = 1n;

	static async create(kind: string, random: Random): Promise<Pair> {
		const system = await VmbusSystem.create({
			...(KINDS[kind] as (typeof KINDS)[string]),
			vps: 2,
			ramBytes: 2 ** 23,
			lazy: true,
			onPacket: (channel, { type, id, bytes, offset }) => {
				if (type === PacketType.TransferPages) pair.system.send(channel.relid, new Uint8Array(0), { type: 11, id });
				const payload = pair.#sent.get(channel)?.get(id);
				if (type !== PacketType.Completion || payload === undefined) return;
				pair.#sent.get(channel)?.delete(id);
				pair.echoed++;
				expect(bytes.slice(offset, offset + payload.length)).toEqual(payload);
			},
		});
		const pair = new Pair(system, random);
		return pair;
	}

	private constructor(system: VmbusSystem, random: Random) {
		this.system = system;
		this.#random = random;
	}

	/** Whose channels the guest sees. */
	get serving(): Vsp {
		return this.system.paravisor ?? this.system.host;
	}

	do(command: GuestCommand): void {
		this.commands.push(command);
	}

	offer(): void {
		const random = this.#random;
		const { host, paravisor } = this.system;
		const vsp = paravisor === null || random.oneIn(2) ? (this.system.relay === null ? this.serving : host) : paravisor;
		// host and paravisor name their devices apart
		const n = random.between(1, 5) + (vsp === host ? 0 : 10);
		vsp.offer(device(n, { interfaceId: DeviceType.Network, flags: random.pick(FLAGS) }));
	}

	revoke(): void {
		const { host } = this.system;
		const vsp = this.system.relay !== null && this.#random.oneIn(2) ? host : this.serving;
		const ids = vsp.server.channels.map(({ offerId }) => offerId);
		const relayed = (offerId: number) => vsp !== host && this.system.relay?.hostRelid(offerId) !== undefined;
		const own = ids.filter((offerId) => !relayed(offerId));
		if (own.length > 0) vsp.revoke(this.#random.pick(own));
	}

	/** Something that guest, host or paravisor may do. */
	act(): void {
		const { system } = this;
		const random = this.#random;
		const { guest } = system;
		const relid = random.pick([...guest.channels.keys(), 1]);
		const channel = guest.channels.get(relid);
		switch (random.below(15)) {
			case 0:
				this.offer();
				break;
			case 1:
				if (random.oneIn(2)) this.revoke();
				break;
			case 2:
			case 3:
				this.do(guest.open(relid, { sendPages: random.between(2, 9), receivePages: random.between(2, 4) }));
				break;
			case 4:
				this.do(guest.close(relid));
				break;
			case 5:
				this.do(guest.gpadl(relid, random.between(1, 40)));
				break;
			case 6:
				this.do(guest.gpadlDown(relid, random.pick([...(channel?.gpadls.keys() ?? []), 5])));
				break;
			case 7:
				// from 5.3 on a guest waits for the answer before it asks again
				if (!this.commands.some(({ name, status }) => name === "modify" && status === undefined))
					this.do(guest.modify(relid, random.below(2)));
				break;
			case 8:
			case 9:
			case 10:
				if (channel !== undefined) this.#echo(channel);
				break;
			case 11:
			case 12:
				if (channel !== undefined) this.#useBuffer(channel);
				break;
			case 13:
				this.do(guest.unbind(relid));
				break;
			default:
				this.settle();
		}
		for (let n = random.below(5); n > 0 && system.due > 0; n--) system.step();
	}

	#echo(channel: GuestChannel): void {
		const payload = this.#random.bytes(8 * this.#random.between(1, 60));
		const id = this.#nextId++;
		const sent = this.#sent.get(channel) ?? new Map<bigint, Uint8Array>();
		this.#sent.set(channel, sent);
		sent.set(id, payload);
		if (this.system.send(channel.relid, payload, { id, wantsCompletion: true }) !== "ok") sent.delete(id);
	}

	/** Commands to the echo device: they read and write what the guest shares. */
	#useBuffer(channel: GuestChannel): void {
		const [gpadl] = channel.gpadls.values();
		if (gpadl === undefined) return;
		const words = (...list: number[]) => new Uint8Array(Uint32Array.from(list).buffer);
		const { relid } = channel;
		const options = { id: this.#nextId++, wantsCompletion: true };
		const range = [multiPageRange({ gpa: gpadl.gpa, bytes: 4096 * gpadl.pages })];
		if (this.#random.oneIn(2)) {
			this.system.sendGpaDirect(relid, range, words(ECHO, EchoCommand.Take), options);
			return;
		}
		this.system.send(relid, words(ECHO, EchoCommand.Buffer, gpadl.handle, 7), options);
		this.system.send(relid, words(ECHO, EchoCommand.Transfer, 1, 2), { ...options, id: this.#nextId++ });
	}

	settle(): void {
		for (let i = 0; this.system.due > 0; i++) {
			expect(i).toBeLessThan(100_000);
			this.system.step();
		}
	}

	/** What holds after every step. */
	check(): void {
		const { system } = this;
		const { engine, pages, guest } = system;
		for (const event of system.events) {
			if (event.kind === "served") expect(event.broken).toBeNull();
			if (event.kind === "post") expect(event.status).toBe(HvStatus.SUCCESS);
			if (event.kind === "message") expect(event.status).toBe(HvStatus.SUCCESS);
			if (event.kind === "pages") expect(event.done).toBe(true);
		}
		system.events.length = 0;
		// every shared page is one that the guest meant to share
		let shared = 0;
		for (const { gpa, pages: count, purpose } of pages.runs) {
			const states = Array.from({ length: count }, (_, i) => engine.ram.pageState(gpa + 4096 * i));
			expect(new Set(states).size, purpose).toBe(1);
			if (states[0] !== PageState.Shared) continue;
			shared += count;
			if (system.platform.isolation !== "none") expect(NEVER_SHARED).not.toContain(purpose);
		}
		if (system.platform.isolation !== "none")
			expect(engine.ram.pagesInState(PageState.Shared)).toBe(shared + (system.platform.paravisor ? 4 : 0));
		for (const channel of guest.channels.values()) {
			const { ring, ringGpadl, gpadls, confidentialRing, confidentialMemory } = channel;
			const stateAt = (gpa: number) => engine.ram.pageState(gpa);
			if (system.platform.isolation === "none") continue;
			if (ring !== null && channel.state === "opened")
				expect(stateAt(ring.gpa)).toBe(confidentialRing ? PageState.Private : PageState.Shared);
			for (const { gpa } of gpadls.values())
				expect(stateAt(gpa)).toBe(confidentialMemory ? PageState.Private : PageState.Shared);
			if (channel.state === "opened") expect(ringGpadl).not.toBeNull();
		}
	}

	/** What holds when nothing is under way: both sides believe the same, and so does a host behind a relay. */
	agree(): void {
		const { guest, relay, host } = this.system;
		const waiting = this.commands.filter(({ status }) => status === undefined);
		expect(waiting.map(({ name, relid }) => [name, relid])).toEqual([]);
		expect(guest.pendingRequests).toBe(0);
		const { server } = this.serving;
		const known = server.channels.filter(({ info }) => info !== null);
		expect([...guest.channels.keys()].sort()).toEqual(known.map(({ info }) => info?.relid).sort());
		for (const { offerId, info, state } of known) {
			const mine = guest.channels.get(info?.relid ?? 0);
			expect([info?.relid, mine?.rescinded, state.name]).toEqual([
				info?.relid,
				false,
				mine?.state === "opened" ? "Open" : "Closed",
			]);
			const gpadls = [...(mine?.gpadls.keys() ?? []), ...(mine?.ringGpadl ? [mine.ringGpadl.handle] : [])].sort();
			expect(server.gpadls(offerId).map(({ gpadl, state }) => [gpadl, state])).toEqual(
				expect.arrayContaining(gpadls.map((id) => [id, "Accepted"])),
			);
			expect(server.gpadls(offerId)).toHaveLength(gpadls.length);
			const hostRelid = relay?.hostRelid(offerId);
			if (hostRelid === undefined) continue;
			const theirs = host.server.channels.find((one) => one.info?.relid === hostRelid);
			expect(theirs?.state.name).toBe(state.name);
			expect(
				host.server
					.gpadls(theirs?.offerId ?? 0)
					.map(({ gpadl }) => gpadl)
					.sort(),
			).toEqual(gpadls);
		}
	}

	/** Ends the connection; nothing may be left. */
	unload(): void {
		const { guest, pages, engine, platform, host, relay } = this.system;
		const before = this.commands.length;
		this.do(guest.unload());
		this.settle();
		expect(this.commands.slice(before).map(({ status }) => status)).toEqual(["ok"]);
		const { server } = this.serving;
		expect(server.connection.name).toBe("Disconnected");
		for (const { offerId, state } of server.channels) {
			expect(state.name).toBe("ClientReleased");
			expect(server.gpadls(offerId)).toEqual([]);
		}
		for (const { offerId, state } of relay === null ? [] : host.server.channels) {
			expect(["Closed", "ClientReleased"]).toContain(state.name);
			expect(host.server.gpadls(offerId)).toEqual([]);
		}
		expect(guest.waits).toEqual([]);
		expect([guest.channels.size, guest.primaries.length, guest.pendingRequests]).toEqual([0, 0, 0]);
		const inputs = platform.paravisor || !["snp", "tdx"].includes(platform.isolation) ? 0 : 2;
		expect([pages.used, pages.leaked]).toEqual([inputs, 0]);
		if (platform.isolation === "none") return;
		expect(engine.ram.pagesInState(PageState.Shared)).toBe(platform.paravisor ? 4 : inputs);
	}
}
