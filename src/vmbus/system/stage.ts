/** What a scenario does with a system, and what it finds: every result is read from RAM, rings or the parties' states. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { PageState, pageStateName } from "../../memory/ram.ts";
import { multiPageRange, PacketType } from "../../ring/packet.ts";
import type { Gpa } from "../../types.ts";
import { ECHO, EchoCommand, EchoStatus } from "../devices/echo.ts";
import type { OpenOptions, ReceivedPacket } from "../guest/channel.ts";
import type { GuestBuffer } from "../guest/guest.ts";
import type { GuestCommand } from "../guest/options.ts";
import { pagesView } from "../server/memory-view.ts";
import type { OfferOptions } from "../server/offers.ts";
import type { SystemOptions } from "./options.ts";
import { VmbusSystem } from "./system.ts";
import type { Vsp } from "./vsp.ts";

const RINGS: OpenOptions = { sendPages: 4, receivePages: 4 };
const TRANSFER_SET = 0xcafe;
/** Where a transfer-page packet's fields stand. */
const RANGE_COUNT = 20;
const RANGES = 24;

/** Pages of one purpose and state. */
export interface PagesFound {
	readonly purpose: string;
	readonly gpas: readonly Gpa[];
	readonly state: string;
	/** Asked of the host's own view of memory. */
	readonly hostReads: boolean;
}

export interface ChannelFound {
	readonly relid: number;
	readonly name: string;
	readonly device: "host" | "paravisor";
	readonly relayed: boolean;
	readonly state: string;
	readonly connectionId: number;
	readonly ring: "private" | "shared";
	readonly external: "private" | "shared";
	/** What was sent over it, and whether the same came back. */
	readonly carried: readonly { readonly kind: string; readonly bytes: number; readonly same: boolean }[];
}

/** A system at its end. */
export interface SystemState {
	/** null: none. */
	readonly connection: { readonly version: number; readonly features: number; readonly confidential: boolean } | null;
	readonly pages: readonly PagesFound[];
	readonly channels: readonly ChannelFound[];
	/** After UNLOAD: pages in the guest's use, those that the host can still read, and those leaked. */
	readonly left: { readonly used: number; readonly shared: number; readonly placed: number; readonly leaked: number };
}

export class SystemStage {
	readonly system: VmbusSystem;
	readonly #names = new Map<string, string>();
	readonly #received: { relid: number; packet: ReceivedPacket }[];
	readonly #carried = new Map<number, { kind: string; bytes: number; same: boolean }[]>();
	readonly #gone = new Map<number, ChannelFound>();
	readonly #tidying: (() => void)[] = [];
	#nextId = 1n;

	private constructor(system: VmbusSystem, received: { relid: number; packet: ReceivedPacket }[]) {
		this.system = system;
		this.#received = received;
	}

	static async create(options: SystemOptions): Promise<SystemStage> {
		const received: { relid: number; packet: ReceivedPacket }[] = [];
		const onPacket: SystemOptions["onPacket"] = ({ relid }, packet) => void received.push({ relid, packet });
		return new SystemStage(await VmbusSystem.create({ ...options, onPacket }), received);
	}

	/** Offers a device under a name for people. @returns its offer's number @throws Error when it is refused */
	offer(vsp: Vsp, name: string, options: OfferOptions): number {
		const offerId = vsp.offer(options);
		if (typeof offerId === "string") throw new Error(`offer of ${name}: ${offerId}`);
		this.#names.set(options.instanceId, name);
		vsp.note(`has a device: ${name}`);
		return offerId;
	}

	/** Gives the guest a command and says how it ended, if it has. */
	command<T>(text: string, give: () => GuestCommand<T>): GuestCommand<T> {
		this.system.note(text);
		const command = give();
		if (command.status !== undefined) this.system.note(`${text}: ${command.status}`);
		return command;
	}

	connect(): GuestCommand {
		return this.command("connect", () => this.system.guest.connect());
	}

	open(relid: number): GuestCommand {
		return this.command(`open channel ${relid}`, () => this.system.guest.open(relid, RINGS));
	}

	/** Opens every channel that is offered, and sends data through each in all three ways. */
	useAll(): void {
		for (const relid of [...this.system.guest.channels.keys()].sort((a, b) => a - b)) {
			if (this.open(relid).status !== "ok") continue;
			this.#inBand(relid);
			this.#gpaDirect(relid);
			this.#transferPages(relid);
		}
	}

	/** Packets that came since the last look. */
	take(relid: number): ReceivedPacket[] {
		const taken = this.#received.filter((one) => one.relid === relid).map(({ packet }) => packet);
		this.#received.splice(0, this.#received.length, ...this.#received.filter((one) => one.relid !== relid));
		return taken;
	}

	id(): bigint {
		return this.#nextId++;
	}

	#result(relid: number, kind: string, bytes: number, same: boolean): void {
		this.#carried.set(relid, [...(this.#carried.get(relid) ?? []), { kind, bytes, same }]);
		this.system.note(`channel ${relid}: ${kind}: ${bytes} bytes ${same ? "came back the same" : "did not come back"}`);
	}

	#inBand(relid: number): void {
		const payload = text(`in band through channel ${relid}`, 32);
		this.system.send(relid, payload, { id: this.id(), wantsCompletion: true });
		const [answer] = this.take(relid);
		this.#result(relid, "in-band", payload.length, answer !== undefined && equal(payloadOf(answer), payload));
	}

	/** A command of the echo device. @returns whether it answered that it is done */
	#echo(relid: number, words: readonly number[], gpa?: { readonly gpa: Gpa; readonly bytes: number }): boolean {
		const payload = wordsOf(words);
		const options = { id: this.id(), wantsCompletion: true };
		if (gpa === undefined) this.system.send(relid, payload, options);
		else this.system.sendGpaDirect(relid, [multiPageRange(gpa)], payload, options);
		const answer = this.take(relid).find(({ type, id }) => type === PacketType.Completion && id === options.id);
		return answer !== undefined && u32(payloadOf(answer), 0) === EchoStatus.Done;
	}

	/** The device reads guest memory that a packet names, and writes it back elsewhere. */
	#gpaDirect(relid: number): void {
		const { pages, engine, platform, guest } = this.system;
		const isPrivate = guest.channels.get(relid)?.confidentialMemory ?? false;
		const gpa = pages.alloc(2, "GPA-direct data");
		const shares = platform.isolation !== "none" && !isPrivate;
		if (gpa < 0 || (shares && !pages.decrypt(gpa, 2))) return;
		const data = text(`data of channel ${relid}`, 512);
		engine.ram.write(gpa + 0x100, data);
		const done =
			this.#echo(relid, [ECHO, EchoCommand.Take], { gpa: gpa + 0x100, bytes: data.length }) &&
			this.#echo(relid, [ECHO, EchoCommand.Give], { gpa: gpa + PAGE_SIZE, bytes: data.length });
		const back = engine.ram.read(gpa + PAGE_SIZE, data.length);
		this.#result(relid, "GPA-direct", data.length, done && equal(back, data));
		this.#tidying.push(() => {
			if (!shares || pages.encrypt(gpa, 2)) pages.free(gpa, 2);
			else pages.leak(gpa, 2);
		});
	}

	/** The device sends from a buffer that the guest has given it. */
	#transferPages(relid: number): void {
		const { system } = this;
		const { guest, engine } = system;
		const { result } = this.command<GuestBuffer>(`buffer of 2 pages for channel ${relid}`, () => guest.gpadl(relid, 2));
		if (result === undefined) return;
		this.#tidying.push(() => {
			if (guest.channels.get(relid)?.gpadls.has(result.handle))
				this.command(`end of the buffer of channel ${relid}`, () => guest.gpadlDown(relid, result.handle));
		});
		this.#echo(relid, [ECHO, EchoCommand.Buffer, result.handle, TRANSFER_SET]);
		const data = text(`from channel ${relid}'s buffer`, 64);
		const command = new Uint8Array([...wordsOf([ECHO, EchoCommand.Transfer]), ...data]);
		system.send(relid, command, { id: this.id(), wantsCompletion: true });
		const packet = this.take(relid).find(({ type }) => type === PacketType.TransferPages);
		let same = false;
		if (packet !== undefined && u32(packet.bytes, RANGE_COUNT) === 1) {
			const [bytes, offset] = [u32(packet.bytes, RANGES), u32(packet.bytes, RANGES + 4)];
			// both are the device's words
			if (bytes <= data.length && offset + bytes <= result.pages * PAGE_SIZE)
				same = equal(engine.ram.read(result.gpa + offset, bytes), data);
			system.send(relid, new Uint8Array(0), { type: PacketType.Completion, id: packet.id });
		}
		this.#result(relid, "transfer pages", data.length, same);
	}

	#pages(): PagesFound[] {
		const { engine, runs } = this.system;
		const host = pagesView(engine, "shared");
		const lines = new Map<string, { purpose: string; gpas: Gpa[]; state: string; hostReads: boolean }>();
		for (const { gpa, pages, purpose } of runs) {
			for (let page = gpa; page < gpa + pages * PAGE_SIZE; page += PAGE_SIZE) {
				const state = pageStateName(engine.ram.pageState(page));
				const hostReads = typeof host.read(page, PAGE_SIZE) !== "string";
				const key = `${purpose} ${state} ${hostReads}`;
				const line = lines.get(key) ?? { purpose, gpas: [], state, hostReads };
				line.gpas.push(page);
				lines.set(key, line);
			}
		}
		return [...lines.values()];
	}

	#channels(): ChannelFound[] {
		const { guest, paravisor, relay } = this.system;
		const now = [...guest.channels.values()].map((channel) => {
			const { relid, offer, state, confidentialRing, confidentialMemory } = channel;
			const served = paravisor?.server.channels.find(({ info }) => info?.relid === relid);
			return {
				relid,
				name: this.#names.get(offer.instanceId) ?? offer.instanceId,
				device: this.system.deviceSide(relid),
				relayed: served !== undefined && relay?.hostRelid(served.offerId) !== undefined,
				state,
				connectionId: offer.connectionId,
				ring: confidentialRing ? ("private" as const) : ("shared" as const),
				external: confidentialMemory ? ("private" as const) : ("shared" as const),
				carried: this.#carried.get(relid) ?? [],
			};
		});
		return [...this.#gone.values(), ...now].sort((a, b) => a.relid - b.relid);
	}

	/** Keeps what is known of channels that are about to be rescinded. */
	remember(): void {
		for (const channel of this.#channels()) this.#gone.set(channel.relid, { ...channel, state: "rescinded" });
	}

	/** Looks at everything, then ends the connection and looks at what is left. */
	finish(): SystemState {
		const { guest, pages, engine, machine, platform } = this.system;
		const { version, features, isConfidential, state } = guest;
		const connection = state === "connected" ? { version, features, confidential: isConfidential } : null;
		const found = { connection, pages: this.#pages(), channels: this.#channels() };
		for (const tidy of this.#tidying) tidy();
		if (state === "connected") this.command("unload", () => guest.unload());
		guest.dispose();
		const placed = platform.paravisor ? 2 * machine.vps : 0;
		const left = {
			used: pages.used,
			shared: platform.isolation === "none" ? 0 : engine.ram.pagesInState(PageState.Shared) - placed,
			placed,
			leaked: pages.leaked,
		};
		return { ...found, left };
	}
}

function text(words: string, bytes: number): Uint8Array {
	return new TextEncoder().encode(words.padEnd(bytes, ".").slice(0, bytes));
}

function wordsOf(words: readonly number[]): Uint8Array {
	const bytes = new Uint8Array(4 * words.length);
	for (const [i, word] of words.entries()) new DataView(bytes.buffer).setUint32(4 * i, word, true);
	return bytes;
}

function u32(bytes: Uint8Array, at: number): number {
	return at + 4 <= bytes.length ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true) : -1;
}

function payloadOf({ bytes, offset }: ReceivedPacket): Uint8Array {
	return bytes.subarray(offset);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
	return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
