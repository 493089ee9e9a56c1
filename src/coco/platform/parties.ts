/** Who touches RAM: guest, paravisor, host and devices, each through its own view of it. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import { BAD_SIZE } from "../../../assembly/layout/status.ts";
import { Actor } from "../../audit/audit.ts";
import { PageState } from "../../memory/ram.ts";
import { DmaError, hex } from "../../status.ts";
import type { DmaAddr, Gpa } from "../../types.ts";
import { CIPHER_BLOCK_BYTES, CipherUnavailable } from "./ciphertext.ts";
import type { PageConverter } from "./convert.ts";
import { decodeAddress } from "./platform.ts";
import { AccessFault, type AccessResult, type PartyName, ViolationLog, type ViolationName } from "./violations.ts";

/** RAM as one party sees it. For a device, addresses are DMA addresses; for the others, guest physical ones. */
export interface PartyView<Address extends number = Gpa> {
	readonly who: PartyName;
	/**
	 * What the party gets of [address, address + bytes): not always what the guest wrote there.
	 * @param bytes 1 .. 2^31 - 1
	 * @throws AccessFault when the read does not happen; CipherUnavailable; DmaError BAD_SIZE
	 */
	read(address: Address, bytes: number): Uint8Array;
	/**
	 * Writes in ascending order up to the first page, or corrupted line, that the party cannot write.
	 * @throws AccessFault there; DmaError BAD_SIZE
	 */
	write(address: Address, data: Uint8Array): void;
}

/** A device's view. T may change as the device's trust does. */
export interface DeviceView extends PartyView<DmaAddr> {
	/** The T bit of its transactions: 0 as any device, 1 as a trusted one in state RUN. */
	t: 0 | 1;
}

interface DeviceViewOptions {
	/** Default 0. */
	readonly t?: 0 | 1;
	/**
	 * Whether DMA addresses carry the platform's bit. false: they are plain and the page's state alone decides, as with
	 * AMD SEV-TIO without a vIOMMU. Default true.
	 */
	readonly encoded?: boolean;
	/** Whether the paravisor serves the device: it reaches the pages that the host does not map. Default false. */
	readonly paravisor?: boolean;
}

type Access = "read" | "write";
/** Null: the access is served with the page's bytes. */
type Judgement = { readonly what: ViolationName; readonly result: AccessResult } | null;
/** Decides over pages in a state. Pages in transition and leaked ones are nobody's and do not come here. */
type Judge = (state: PageState, access: Access) => Judgement;

interface Accessor {
	readonly who: PartyName;
	/** A device's number, or null. */
	readonly device: number | null;
	/** Who the audit says it is. */
	readonly actor: Actor;
	/** The T bit of a device. */
	readonly t?: 0 | 1;
	readonly judge: Judge;
	/** What is to be added to a gpa to have the address as the party was given it. */
	readonly addressOffset: number;
}

const NOBODYS = new Map<PageState, ViolationName>([
	[PageState.InTransition, "in-transition-page"],
	[PageState.Leaked, "leaked-page"],
]);

/**
 * All parties of one guest, and what they did that they had no right to. Only what goes through these views is judged:
 * Ram.read and Ram.write and the engine's bounce copies are the guest's CPU without its integrity check, and miss the lines
 * that a host has corrupted (TDX). A guest that is to notice reads through `guest`.
 */
export class Parties {
	readonly #converter: PageConverter;
	readonly violations: ViolationLog;
	readonly guest: PartyView;
	/** VTL2, which reaches all of the guest's memory. */
	readonly paravisor: PartyView;
	readonly host: PartyView;

	/**
	 * @param options keepViolations: how many of the latest violations the log keeps, from 0. Default 1024
	 * @throws RangeError for another number
	 */
	constructor(converter: PageConverter, options: { readonly keepViolations?: number } = {}) {
		this.#converter = converter;
		this.violations = new ViolationLog(options.keepViolations ?? 1024);
		this.guest = this.#view("guest", Actor.Guest, () => null);
		this.paravisor = this.#view("paravisor", Actor.Paravisor, () => null);
		this.host = this.#view("host", Actor.Host, (state, access) => {
			if (state === PageState.Private) return this.#withoutKey("private-page", access);
			return state === PageState.Hidden ? unmapped(access) : null;
		});
	}

	#view(who: PartyName, actor: Actor, judge: Judge): PartyView {
		const accessor = { who, device: null, actor, judge, addressOffset: 0 };
		return {
			who,
			read: (gpa, bytes) => this.#read(accessor, gpa, bytes),
			write: (gpa, data) => this.#write(accessor, gpa, data),
		};
	}

	/** The view of a device. Each call makes one; what they do is recorded under the device's number. */
	device(index: number, options: DeviceViewOptions = {}): DeviceView {
		const { encoded = true, t = 0, paravisor = false } = options;
		const who = `device ${index}` as const;
		const decode = (dma: DmaAddr) => decodeAddress(this.#converter.platform, dma, encoded);
		const accessor = (gpa: Gpa, dma: DmaAddr, form: "private" | "shared" | null): Accessor => ({
			who,
			device: index,
			actor: index,
			t: view.t,
			addressOffset: dma - gpa,
			judge: (state, access) =>
				paravisor && state === PageState.Hidden ? null : this.#judgeDevice(view.t, form, state, access),
		});
		const view: DeviceView = {
			who,
			t,
			read: (dma, bytes) => {
				const { gpa, form } = decode(dma);
				return this.#read(accessor(gpa, dma, form), gpa, bytes);
			},
			write: (dma, data) => {
				const { gpa, form } = decode(dma);
				this.#write(accessor(gpa, dma, form), gpa, data);
			},
		};
		return view;
	}

	#judgeDevice(t: 0 | 1, form: "private" | "shared" | null, state: PageState, access: Access): Judgement {
		if (state === PageState.Hidden) return unmapped(access);
		if (state === PageState.Private) {
			if (t === 0) return this.#withoutKey("private-page", access);
			return form === "shared" ? this.#withoutKey("wrong-encoding", access) : null;
		}
		if (form !== "private") return null;
		// only where the host's bytes are ciphertext does the key make something of plain ones
		const garbled = access === "read" && this.#converter.platform.hostRead === "ciphertext";
		return { what: "wrong-encoding", result: garbled ? "garbage" : refusal(access) };
	}

	/** What the platform does with an access to a private page that comes without the guest's key. */
	#withoutKey(what: ViolationName, access: Access): Judgement {
		const { hostRead, hostWrite } = this.#converter.platform;
		const result = access === "read" ? hostRead : hostWrite;
		return result === "plain" ? null : { what, result };
	}

	#read(by: Accessor, gpa: Gpa, bytes: number): Uint8Array {
		checkSize(by.who, "read", gpa, bytes);
		const { engine, poison } = this.#converter;
		const { ram } = engine;
		// a device may ask for more than there is: what it gets is taken part by part
		const parts: Uint8Array[] = [];
		let at = 0;
		while (at < bytes) {
			const run = this.#run(by, "read", gpa + at, bytes - at);
			const result = run.judgement?.result ?? null;
			if (result === null) {
				const line = run.state === PageState.Private ? poison.firstIn(run.gpa, run.bytes) : -1;
				const skipped = Math.max(line - run.gpa, 0);
				if (line >= 0) throw this.#corrupted(by, "read", run.gpa + skipped, run.bytes - skipped);
				parts.push(this.#as(by, () => ram.read(run.gpa, run.bytes)));
			} else if (result === "ciphertext") parts.push(this.#throughKey("encrypt", run.gpa, run.bytes));
			else if (result === "garbage") parts.push(this.#throughKey("decrypt", run.gpa, run.bytes));
			else parts.push(new Uint8Array(run.bytes));
			at += run.bytes;
		}
		return parts.length === 1 ? (parts[0] as Uint8Array) : joined(parts, bytes);
	}

	#write(by: Accessor, gpa: Gpa, data: Uint8Array): void {
		checkSize(by.who, "write", gpa, data.length);
		const { engine, poison } = this.#converter;
		let at = 0;
		while (at < data.length) {
			const run = this.#run(by, "write", gpa + at, data.length - at);
			if (run.judgement === null) {
				const line = run.state === PageState.Private ? poison.firstPartlyIn(run.gpa, run.bytes) : -1;
				const bytes = line < 0 ? run.bytes : Math.max(line - run.gpa, 0);
				const part = data.subarray(at, at + bytes);
				if (bytes > 0) this.#as(by, () => engine.ram.write(run.gpa, part));
				poison.remove(run.gpa, bytes);
				// the rest of a line has to be read first
				if (line >= 0) throw this.#corrupted(by, "write", run.gpa + bytes, run.bytes - bytes);
			} else poison.add(run.gpa, run.bytes);
			at += run.bytes;
		}
	}

	/** Touches RAM so that the audit knows who did it, and what a device's bytes are. The guest has a pen of its own. */
	#as<T>({ actor, t }: Accessor, touch: () => T): T {
		const { audit } = this.#converter.engine;
		if (audit === null || actor === Actor.Guest) return touch();
		const trusted = t === 1;
		const label = t === undefined ? null : { owner: actor, isPrivate: trusted, secret: trusted, accepted: trusted };
		return audit.as(actor, label === null ? null : audit.label(label), touch);
	}

	/**
	 * The first part of a range whose pages are in one state, judged. A violation is recorded.
	 * @throws AccessFault when the access does not happen there
	 */
	#run(by: Accessor, access: Access, gpa: Gpa, bytes: number) {
		const { exports } = this.#converter.engine.instance;
		const state = exports.ramPageState(gpa);
		let length = Math.min(bytes, PAGE_SIZE - (gpa % PAGE_SIZE));
		if (state < 0) throw this.#fault(by, access, { what: "outside-ram", result: refusal(access) }, gpa, bytes);
		while (length < bytes && exports.ramPageState(gpa + length) === state) length = Math.min(bytes, length + PAGE_SIZE);
		const blocked = NOBODYS.get(state as PageState);
		const judgement: Judgement =
			blocked === undefined ? by.judge(state as PageState, access) : { what: blocked, result: refusal(access) };
		if (judgement?.result === "fault" || judgement?.result === "refused")
			throw this.#fault(by, access, judgement, gpa, length);
		if (judgement !== null) this.#record(by, access, judgement, gpa, length);
		return { gpa, bytes: length, state: state as PageState, judgement };
	}

	/** A holder of the key meets what somebody else wrote. */
	#corrupted(by: Accessor, access: Access, gpa: Gpa, bytes: number): AccessFault {
		return this.#fault(by, access, { what: "corrupted-line", result: refusal(access) }, gpa, bytes);
	}

	#record(by: Accessor, access: Access, judgement: NonNullable<Judgement>, gpa: Gpa, bytes: number) {
		const violation = {
			who: by.who,
			device: by.device,
			access,
			...judgement,
			gpa,
			bytes,
			address: gpa + by.addressOffset,
		};
		this.violations.record(violation);
		return violation;
	}

	#fault(by: Accessor, access: Access, judgement: NonNullable<Judgement>, gpa: Gpa, bytes: number): AccessFault {
		const violation = this.#record(by, access, judgement, gpa, bytes);
		return new AccessFault(violation, BARRIERS[judgement.what] ?? this.#converter.platform.hostBarrier);
	}

	/** RAM's bytes encrypted, or decrypted, by whole blocks. */
	#throughKey(how: "encrypt" | "decrypt", gpa: Gpa, bytes: number): Uint8Array {
		const { cipher, engine } = this.#converter;
		if (how === "encrypt" && !cipher.isAes) throw new CipherUnavailable("this guest was made without it");
		const start = gpa - (gpa % CIPHER_BLOCK_BYTES);
		const end = Math.ceil((gpa + bytes) / CIPHER_BLOCK_BYTES) * CIPHER_BLOCK_BYTES;
		// what the hardware reads is no access of the guest's CPU, and the audit hears of none
		const pages: Uint8Array[] = [];
		for (let at = start; at < end; at += PAGE_SIZE - (at % PAGE_SIZE))
			pages.push(engine.ram.view(at, Math.min(end - at, PAGE_SIZE - (at % PAGE_SIZE))));
		return cipher[how](start, joined(pages, end - start)).subarray(gpa - start, gpa - start + bytes);
	}
}

/** What stops an access where it is not the platform's guard of private pages. */
const BARRIERS: Partial<Record<ViolationName, string>> = {
	"hidden-page": "not mapped by the host",
	"wrong-encoding": "the address has the form of the other kind of page",
	"corrupted-line": "machine check",
	"in-transition-page": "not present",
	"leaked-page": "not present",
	"outside-ram": "no memory",
};

/** A hidden page, for who uses the host's mapping. */
function unmapped(access: Access): Judgement {
	return { what: "hidden-page", result: refusal(access) };
}

function refusal(access: Access): "fault" | "refused" {
	return access === "read" ? "fault" : "refused";
}

function joined(parts: readonly Uint8Array[], bytes: number): Uint8Array {
	const out = new Uint8Array(bytes);
	let at = 0;
	for (const part of parts) {
		out.set(part, at);
		at += part.length;
	}
	return out;
}

function checkSize(who: PartyName, access: Access, address: number, bytes: number): void {
	if (!Number.isInteger(bytes) || bytes < 1 || bytes >= 2 ** 31)
		throw new DmaError(`${access}(${hex(address)}, ${bytes} bytes) by ${who}`, BAD_SIZE);
}
