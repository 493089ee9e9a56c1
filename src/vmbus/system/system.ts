/**
 * A whole VMBus system over one RAM: a guest, its hypervisor and perhaps a paravisor, with their SynICs, servers, relay and
 * echo devices. Nothing happens by itself: each call runs until all parties wait, and everything is written down.
 */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { Engine } from "../../engine.ts";
import { PageState } from "../../memory/ram.ts";
import type { GpaRange } from "../../ring/packet.ts";
import type { SendOptions } from "../../ring/writer.ts";
import { SynicMachine } from "../../synic/machine.ts";
import type { SynicPlatform } from "../../synic/modes.ts";
import type { Gpa } from "../../types.ts";
import type { GuestChannel } from "../guest/channel.ts";
import { VmbusGuest } from "../guest/guest.ts";
import type { GuestPorts, GuestStatus } from "../guest/options.ts";
import { VmbusRelay } from "../relay/relay.ts";
import { VmbusServer } from "../server/server.ts";
import { RecordedCalls } from "./calls.ts";
import type { NewEvent, PacketEvent, Recorder, SystemEvent } from "./events.ts";
import type { SystemOptions } from "./options.ts";
import { type PageRun, RecordedPages } from "./pages.ts";
import { sentPacket } from "./ring-bytes.ts";
import { Vsp } from "./vsp.ts";

/** Where the paravisor has placed the hypervisor's SynIC pages. */
const PLACED_GPA: Gpa = 0x80000;
/** Where the guest's own pages start. */
const GUEST_GPA: Gpa = 0x100000;
const LEAST_RAM_BYTES = 2 ** 21;
/** From one event to the next on the system's clock. */
const NS_A_STEP = 1000;

export class VmbusSystem {
	readonly engine: Engine;
	readonly platform: SynicPlatform;
	readonly machine: SynicMachine;
	readonly guest: VmbusGuest;
	readonly pages: RecordedPages;
	readonly host: Vsp;
	/** null: no server at the paravisor. */
	readonly paravisor: Vsp | null;
	readonly relay: VmbusRelay | null;
	readonly events: SystemEvent[] = [];
	/** Devices do nothing until step() or settle(). */
	lazy: boolean;
	readonly #options: SystemOptions;
	readonly #calls: RecordedCalls;
	readonly #due: (() => void)[] = [];
	/** Takes down the packet under way, before anything else happens to the ring. */
	#sending: (() => void) | null = null;
	#running = false;
	#timeNs = 0;

	/** @throws RangeError for a paravisor that serves where there is none, or a relay without a paravisor's server, or RAM that is too small */
	static async create(options: SystemOptions): Promise<VmbusSystem> {
		const { platform, paravisorServes = false, relays = false } = options;
		if (paravisorServes && !platform.paravisor) throw new RangeError("paravisorServes: the platform has no paravisor");
		if (relays && !paravisorServes) throw new RangeError("relays: a relay needs paravisorServes");
		const { ramBytes = 2 ** 24, spareBytes = 2 ** 21 } = options;
		const coco = platform.isolation !== "none";
		const engine = options.engine ?? (await Engine.create({ ram: ramBytes, swiotlb: null, coco, spareBytes }));
		const [region] = engine.ram.regions;
		if (region?.gpa !== 0 || region.bytes < LEAST_RAM_BYTES)
			throw new RangeError("engine: its RAM must start at gpa 0, with 2 MiB or more in one region");
		return new VmbusSystem(engine, region.bytes, options);
	}

	private constructor(engine: Engine, ramBytes: number, options: SystemOptions) {
		const { platform, vps = 1, paravisorServes = false, relays = false } = options;
		this.engine = engine;
		this.platform = platform;
		this.#options = options;
		this.lazy = options.lazy ?? false;
		this.machine = new SynicMachine({
			platform,
			vps,
			ram: engine.ram,
			onInterrupt: (interrupt) => {
				options.onInterrupt?.(interrupt);
				this.guest.interrupt(interrupt.vp);
			},
			onHypercall: (report) => {
				this.#calls.report(report);
				options.onHypercall?.(report);
			},
		});
		if (platform.paravisor) {
			engine.ram.convert(PLACED_GPA, 2 * vps * PAGE_SIZE, PageState.Shared);
			for (let vp = 0; vp < vps; vp++) {
				const gpa = PLACED_GPA + 2 * vp * PAGE_SIZE;
				this.machine.givePages(vp, gpa, gpa + PAGE_SIZE);
			}
		}
		const record: Recorder = (event) => this.#record(event);
		this.#calls = new RecordedCalls(
			this.machine,
			engine.ram,
			record,
			() => this.guest.inputGpa(),
			() => this.#takeSent(),
		);
		const common = { engine, machine: this.machine, record, later: (work: () => void) => this.#later(work) };
		const { vp, sint } = { vp: 0, sint: 7 };
		const server = new VmbusServer({ confidential: paravisorServes });
		this.relay = relays ? new VmbusRelay(server, { vp, sint }) : null;
		const { relay } = this;
		const toRelay = (payload: Uint8Array) => this.paravisor?.performRelayed(relay?.hostMessage(payload) ?? []);
		this.host = new Vsp({
			...common,
			party: "hypervisor",
			server: relays ? new VmbusServer({ vtl: 2, sint }) : new VmbusServer(),
			...(relays ? { toRelay } : {}),
		});
		const relaying = relay === null ? {} : { relay: { relay, host: () => this.host } };
		this.paravisor = paravisorServes ? new Vsp({ ...common, party: "paravisor", server, ...relaying }) : null;
		this.paravisor?.listen();
		if (!relays) this.host.listen();
		this.pages = new RecordedPages(engine, { gpa: GUEST_GPA, bytes: ramBytes - GUEST_GPA }, record);
		this.guest = new VmbusGuest({
			engine,
			ports: this.#ports(),
			isolation: platform.isolation,
			paravisor: platform.paravisor,
			sharedGpaBoundary: platform.sharedGpaBoundary,
			cpus: vps,
			features: options.features ?? 0,
			pages: this.pages,
			...(options.confidential === undefined ? {} : { confidential: options.confidential }),
		});
	}

	/** Pages that are set aside for a purpose: those that the paravisor has placed, and the guest's own. */
	get runs(): readonly PageRun[] {
		const { platform, machine } = this;
		const placed = Array.from({ length: platform.paravisor ? 2 * machine.vps : 0 }, (_, i) => ({
			gpa: PLACED_GPA + i * PAGE_SIZE,
			pages: 1,
			purpose: `SynIC ${i % 2 === 0 ? "message" : "event"}, placed by the paravisor`,
		}));
		return [...placed, ...this.pages.runs];
	}

	/** The system's clock (ns). */
	get timeNs(): number {
		return this.#timeNs;
	}

	/** Lets time pass; waits of the guest that have lasted too long end. */
	wait(ns: number): void {
		this.#timeNs += ns;
		this.guest.tick();
	}

	/** Writes something down for people. */
	note(text: string): void {
		this.#record({ kind: "note", from: "guest", text });
	}

	/** The relay contacts the host, and offers what that offers. */
	startRelay(): void {
		if (this.relay !== null) this.paravisor?.performRelayed(this.relay.connect());
		if (!this.lazy) this.settle();
	}

	/** The guest sends a packet. */
	send(relid: number, payload: Uint8Array, options: SendOptions = {}): GuestStatus {
		return this.#send(relid, () => this.guest.send(relid, payload, options));
	}

	/** The guest sends a packet that names its memory. */
	sendGpaDirect(relid: number, ranges: readonly GpaRange[], payload: Uint8Array, options: SendOptions): GuestStatus {
		return this.#send(relid, () => this.guest.sendGpaDirect(relid, ranges, payload, options));
	}

	#send(relid: number, send: () => GuestStatus): GuestStatus {
		const channel = this.guest.channels.get(relid);
		const { ring = null } = channel ?? {};
		if (channel === undefined || ring === null) return send();
		const bytes = sentPacket(this.engine, ring);
		const kind = channel.confidentialRing ? "private" : "shared";
		const event: PacketEvent = {
			kind: "packet",
			from: "guest",
			relid,
			bytes: new Uint8Array(0),
			ring: kind,
			status: "ok",
		};
		this.#record(event);
		this.#sending = () => {
			event.bytes = bytes();
		};
		const status = send();
		event.status = status;
		if (status === "ok") this.#takeSent();
		this.#sending = null;
		return status;
	}

	#takeSent(): void {
		this.#sending?.();
		this.#sending = null;
	}

	/** Pieces of devices' work that wait. */
	get due(): number {
		return this.#due.length;
	}

	/** Does one piece of the devices' work. @param at which one; pieces of one device keep their order only with 0 */
	step(at = 0): void {
		const [work] = this.#due.splice(at, 1);
		work?.();
	}

	/** Does all of the devices' work, and what follows from it. */
	settle(): void {
		if (this.#running) return;
		this.#running = true;
		try {
			while (this.#due.length > 0) this.step();
		} finally {
			this.#running = false;
		}
	}

	#later(work: () => void): void {
		this.#due.push(work);
		if (!this.lazy) this.settle();
	}

	#record<E extends NewEvent>(event: E): E {
		this.#timeNs += NS_A_STEP;
		if (this.#options.records === false) return event;
		const timed = Object.assign(event, { timeNs: this.#timeNs });
		this.events.push(timed as unknown as SystemEvent);
		return event;
	}

	#ports(): GuestPorts {
		return {
			...this.#calls.ports(),
			delay: (us) => {
				this.#timeNs += us * 1000;
			},
			now: () => this.#timeNs,
			callback: (channel) => this.#receive(channel),
			warn: (text) => this.note(text),
		};
	}

	#receive(channel: GuestChannel): void {
		const { relid, confidentialRing } = channel;
		const ring = confidentialRing ? "private" : "shared";
		const { party } = this.#serverOf(relid);
		const from = party === "paravisor" ? "paravisor" : "host";
		const packets = this.guest.packets(relid);
		for (let next = packets.next(); ; next = packets.next()) {
			if (next.done) {
				if (next.value !== "ok") this.note(`reads no more of channel ${relid}: ${next.value}`);
				return;
			}
			this.#record({ kind: "packet", from, relid, bytes: next.value.bytes, ring, status: "ok" });
			this.#options.onPacket?.(channel, next.value);
		}
	}

	/** Whose device stands behind a relid: a relayed channel's is the host's. */
	#serverOf(relid: number): Vsp {
		const { paravisor, relay, host } = this;
		const offered = paravisor?.server.channels.find(({ info }) => info?.relid === relid);
		if (paravisor === null || offered === undefined || relay?.hostRelid(offered.offerId) !== undefined) return host;
		return paravisor;
	}

	/** The server whose device a relid is. */
	deviceSide(relid: number): "host" | "paravisor" {
		return this.#serverOf(relid).party === "paravisor" ? "paravisor" : "host";
	}
}
