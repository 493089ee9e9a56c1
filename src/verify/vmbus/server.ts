/** Transcripts of a guest with a well-behaved host: our server in the host's place must answer the same (golden/vmbus/FORMAT.md, section 3). */
import { bytesOfHex, hexOf } from "../../bytes.ts";
import { Fields } from "../../fields.ts";
import { InputError } from "../../input-error.ts";
import type { ServerAction, ServerCompletion } from "../../vmbus/server/actions.ts";
import type { OfferOptions } from "../../vmbus/server/offers.ts";
import { VmbusServer } from "../../vmbus/server/server.ts";
import { HEADER_BYTES, MessageType, messageSpec } from "../../vmbus/wire/messages.ts";
import { Diverged, divergedAt, type Replayed } from "../result.ts";
import { OfferBook, readOffer, readServer } from "./server-lines.ts";
import { describePayload } from "./text.ts";

const MACHINE_ACT =
	/^(rescind|hotadd|event) \d+$|^release answer to type \d+$|^next answer to type \d+ has status [0-9a-f]+$/;
/** HvPostMessage's status for a connection id that nobody listens to. */
const INVALID_CONNECTION_ID = "18";

/** Whether the recorded host only did what a server may be asked to do: no injected faults, hand-made messages or odd offers. */
export function hasCleanServer(lines: readonly string[]): boolean {
	let known: string[] = [];
	let posted = "";
	let connected = false;
	const offers = new OfferBook();
	return lines.every((line) => {
		const [from, verb, ...rest] = line.trim().split(" ");
		const ids = /^S server .*\bconn_ids=(\S+) msg_conn=(\S+)/.exec(line);
		if (ids !== null) known = [...(ids[1] as string).split(","), ids[2] as string];
		if (from === "S" && verb === "act") {
			const relid = Number(rest[1]);
			if (rest[0] === "rescind") offers.rescind(relid);
			return MACHINE_ACT.test(rest.join(" ")) && (rest[0] !== "hotadd" || offers.offer(relid));
		}
		if (from === "S" && verb === "offer") return offers.note(line, connected);
		if (from === "G" && verb === "POST") {
			posted = rest[0] ?? "";
			connected = true;
		}
		if (from === "H" && verb === "RET")
			return rest[0] === "0" || (rest[0] === INVALID_CONNECTION_ID && !known.includes(posted));
		return verb !== "HVMSG" && verb !== "case";
	});
}

/** A message that our server sent, and the channel whose order it is in ("" for the connection). */
interface Produced {
	readonly channel: string;
	readonly hex: string;
	readonly line: number;
	/** Right, and not asked for: the recorded host may have left it out. */
	readonly isExtra: boolean;
}

class ServerReplay {
	readonly #path: string;
	readonly #lines: readonly string[];
	#server: VmbusServer | null = null;
	#vtl = 0;
	/** The offer of each relid, and the number of the channel that has it. */
	readonly #offers = new Map<number, OfferOptions>();
	readonly #offerIds = new Map<number, number>();
	readonly #gpadlChannels = new Map<number, number>();
	/** Relids that were rescinded: whether their answers still come is free. */
	readonly #rescinded = new Set<number>();
	/** Statuses that the next answers must have, by type of the request. */
	readonly #statuses = new Map<number, number[]>();
	#produced: Produced[] = [];
	/** Answers that the host gave late, from here on: how often. */
	readonly #late = new Map<string, number>();
	#posted: { status: number; line: number } | null = null;
	#connected = false;
	/** RESCIND messages for relids that are nobody's. */
	#vain: string[] = [];
	#crashed = false;
	/** Whether the guest was waiting for something when it was last idle. */
	#isWaiting = false;
	readonly compared = { posts: 0, messages: 0, acts: 0 };

	constructor(path: string, lines: readonly string[]) {
		this.#path = path;
		this.#lines = lines;
		for (const [i, line] of lines.entries()) if (this.#isLate(i)) this.#countLate(line.trim().split(" ")[2] ?? "", 1);
	}

	#countLate(hex: string, by: number): void {
		this.#late.set(hex, (this.#late.get(hex) ?? 0) + by);
	}

	/** Whether the line is a message that an act "release answer" let go. */
	#isLate(index: number): boolean {
		if (!this.#lines[index]?.startsWith("H MSG ")) return false;
		let before = index - 1;
		while (this.#lines[before]?.startsWith("H MSG ")) before--;
		return this.#lines[before]?.startsWith("S act release answer ") ?? false;
	}

	run(index: number, f: Fields): void {
		const kind = `${f.text(0, "direction")} ${f.text(1, "verb")}`;
		if (kind === "S guestargs") this.#vtl = Number(/--vtl=(\d)/.exec(this.#lines[index] as string)?.[1] ?? 0);
		else if (kind === "S server") this.#configure(f);
		else if (kind === "S offer") this.#offer(f, index);
		else if (kind === "S act") this.#act(f);
		else if (kind === "G IDLE") this.#isWaiting = f.count > 2;
		else if (kind === "C crash") this.#crashed = true;
		else if (kind === "G POST") this.#post(f);
		else if (kind === "H RET") this.#return(f);
		else if (kind === "H MSG") this.#message(f, this.#isLate(index));
	}

	get #ours(): VmbusServer {
		if (this.#server === null) throw new InputError(`${this.#path}: expected a line "S server" before what needs one`);
		return this.#server;
	}

	#configure(f: Fields): void {
		if (this.#server !== null) throw f.error("server", "one such line");
		try {
			this.#server = new VmbusServer(readServer(f, this.#vtl));
		} catch (error) {
			if (error instanceof InputError) throw error;
			throw f.error("server", "a server that can be", (error as Error).message);
		}
	}

	#offer(f: Fields, index: number): void {
		const offer = readOffer(f, this.#lines[index] as string);
		this.#offers.set(offer.relid, offer);
		// a hot-added one is offered by the act
		if (!this.#connected) this.#add(f, offer.relid);
	}

	#add(f: Fields, relid: number): void {
		const offer = this.#offers.get(relid);
		if (offer === undefined) throw f.error("relid", "one of an offer before", String(relid));
		let offered: ReturnType<VmbusServer["offer"]>;
		try {
			offered = this.#ours.offer(offer);
		} catch (error) {
			throw f.error("offer", "an offer that can be", (error as Error).message);
		}
		if (typeof offered === "string") throw new Diverged(f.line, `offer of relid ${relid}`, "offered", offered);
		this.#offerIds.set(relid, offered.offerId);
		this.#rescinded.delete(relid);
		this.#produced = this.#produced.filter(({ channel, isExtra }) => !(isExtra && channel === String(relid)));
		this.#do(offered.actions, f.line);
	}

	#act(f: Fields): void {
		const verb = f.text(2, "act");
		this.compared.acts++;
		if (verb === "rescind") this.#rescind(f.decimal(3, "relid", 0, 2 ** 32 - 1), f.line);
		else if (verb === "hotadd") this.#add(f, f.decimal(3, "relid", 0, 2 ** 32 - 1));
		else if (verb === "next") {
			const type = f.decimal(6, "type", 0, 2 ** 32 - 1);
			const status = Number.parseInt(f.text(9, "status"), 16);
			this.#statuses.set(type, [...(this.#statuses.get(type) ?? []), status]);
		}
	}

	#rescind(relid: number, line: number): void {
		const offerId = this.#offerIds.get(relid);
		const state = this.#ours.channel(offerId ?? 0)?.state.name;
		this.#rescinded.add(relid);
		if (offerId === undefined || state === undefined || state === "Revoked") {
			// the recorded host sends it in vain: to no channel, or once more
			const isSent = this.#produced.some(({ channel, isExtra }) => isExtra && channel === String(relid));
			if (!isSent) this.#vain.push(hexOf(rescindOf(relid)));
			return;
		}
		const actions = this.#ours.revoke(offerId);
		// sub-channels go before their primary, whether the recorded host took care of that or not
		const taken = actions.flatMap((action) => (action.type === "revoked" ? [action.offerId] : []));
		const subs = [...this.#offerIds].filter(([, id]) => taken.includes(id)).map(([sub]) => sub);
		for (const sub of subs) this.#rescinded.add(sub);
		this.#do(actions, line, new Set(subs.map((sub) => hexOf(rescindOf(sub)))));
	}

	#post(f: Fields): void {
		this.#connected = true;
		const connectionId = Number.parseInt(f.text(2, "connection id"), 16);
		const hex = f.text(4, "payload");
		if (!/^([0-9a-f]{2})*$/.test(hex)) throw f.error("payload", "hex digits", hex.slice(0, 20));
		const payload = bytesOfHex(hex);
		const data = new DataView(payload.buffer);
		if (payload.length >= 16 && data.getUint32(0, true) === MessageType.GpadlHeader)
			this.#gpadlChannels.set(data.getUint32(12, true), data.getUint32(8, true));
		const { status, actions } = this.#ours.post({ connectionId, payload });
		this.#posted = { status, line: f.line };
		this.compared.posts++;
		this.#do(actions, f.line);
	}

	#return(f: Fields): void {
		const status = f.decimal(2, "status", 0, 65535);
		if (this.#posted === null) throw f.error("RET", "a POST before");
		const { status: got, line } = this.#posted;
		this.#posted = null;
		if (got !== status) throw new Diverged(line, "status of the post", String(status), String(got));
	}

	/** Does what our server asks: its devices answer at once. @param extra messages that the recorded host may leave out, as hex */
	#do(actions: readonly ServerAction[], line: number, extra: ReadonlySet<string> = new Set()): void {
		const queue = [...actions];
		for (let action = queue.shift(); action !== undefined; action = queue.shift()) {
			if (action.type === "send") {
				const hex = hexOf(action.payload);
				this.#produced.push({ channel: this.#channelOf(action.payload), hex, line, isExtra: extra.has(hex) });
			}
			const completion = this.#answer(action);
			if (completion !== null) queue.push(...this.#ours.complete(completion));
		}
	}

	#answer(action: ServerAction): ServerCompletion | null {
		const status = (type: number) => this.#statuses.get(type)?.shift() ?? 0;
		switch (action.type) {
			case "connect":
				return { type: "connect", state: 0 };
			case "open":
				return { type: "open", offerId: action.offerId, status: status(MessageType.OpenChannel) };
			case "close":
				return { type: "close", offerId: action.offerId };
			case "modify":
				return { type: "modify", offerId: action.offerId, status: status(MessageType.ModifyChannel) };
			case "gpadl": {
				const { offerId, gpadl } = action;
				return { type: "gpadl", offerId, gpadl, status: status(MessageType.GpadlHeader) };
			}
			case "gpadlTeardown":
				return { type: "gpadlTeardown", offerId: action.offerId, gpadl: action.gpadl };
			default:
				return null;
		}
	}

	/** The channel whose order a message is in. */
	#channelOf(payload: Uint8Array): string {
		const data = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
		if (payload.length < HEADER_BYTES) return "";
		const fields = messageSpec(data.getUint32(0, true))?.fields ?? {};
		const { relid, gpadl } = fields;
		if (relid !== undefined && payload.length >= relid.at + 4) return String(data.getUint32(relid.at, true));
		if (gpadl !== undefined && payload.length >= gpadl.at + 4)
			return String(this.#gpadlChannels.get(data.getUint32(gpadl.at, true)) ?? "");
		return "";
	}

	#message(f: Fields, isLate: boolean): void {
		const hex = f.text(2, "payload");
		if (!/^([0-9a-f]{2})*$/.test(hex)) throw f.error("payload", "hex digits", hex.slice(0, 20));
		const payload = bytesOfHex(hex);
		const channel = this.#channelOf(payload);
		if (isLate) this.#countLate(hex, -1);
		const isFree = channel !== "" && this.#rescinded.has(Number(channel));
		const mine = this.#produced.filter((one) => one.channel === channel);
		// what the host will give late, or for a channel that it has taken back, does not stand in the way
		const isAside = (one: Produced) => isLate || isFree || (this.#late.get(one.hex) ?? 0) > 0;
		const next = mine.find((one) => one.hex === hex || !isAside(one));
		if (next?.hex === hex) {
			this.#produced.splice(this.#produced.indexOf(next), 1);
			this.compared.messages++;
			return;
		}
		if (this.#vain[0] === hex) {
			this.#vain.shift();
			return;
		}
		// a crashing guest is sent what it must ignore
		const isOfferOrRescind = payload[0] === MessageType.OfferChannel || payload[0] === MessageType.RescindChannelOffer;
		if (this.#crashed && isOfferOrRescind) return;
		if (isFree && !isOfferOrRescind) return;
		throw new Diverged(
			f.line,
			`message for ${channel === "" ? "the connection" : `relid ${channel}`}`,
			...told(hex, next?.hex),
		);
	}

	/** @throws Diverged for a message that the recorded host never sent, nor owed a guest that waited to the end */
	end(): void {
		const extra = this.#produced.find(
			({ channel }) => channel === "" || !(this.#rescinded.has(Number(channel)) || this.#isWaiting),
		);
		if (extra !== undefined) throw new Diverged(extra.line, "answer to the post", ...told(undefined, extra.hex));
	}
}

/** What was expected and what came, for people; the bytes as well where the words are the same. */
function told(expected: string | undefined, got: string | undefined): [expected: string, got: string] {
	const say = (hex: string | undefined) => (hex === undefined ? "nothing" : describePayload(bytesOfHex(hex)));
	const [a, b] = [say(expected), say(got)];
	return a === b ? [`${a} ${expected}`, `${b} ${got}`] : [a, b];
}

function rescindOf(relid: number): Uint8Array {
	const payload = new Uint8Array(12);
	const data = new DataView(payload.buffer);
	data.setUint32(0, MessageType.RescindChannelOffer, true);
	data.setUint32(8, relid, true);
	return payload;
}

/**
 * Drives our server with the guest's messages and compares every status and message, in the order of each channel.
 * @param lines of a transcript with a clean server (hasCleanServer) @throws InputError for lines that are not of the format
 */
export function verifyVmbusServer(path: string, lines: readonly string[]): Replayed {
	const replay = new ServerReplay(path, lines);
	const { compared } = replay;
	let line = 1;
	try {
		for (const [i, text] of lines.entries()) {
			if (text.trim() === "") continue;
			line = i + 1;
			replay.run(i, new Fields(path, line, text));
		}
		replay.end();
	} catch (error) {
		return { compared, outcome: divergedAt(line, error) };
	}
	const { posts, messages, acts } = compared;
	const said = `server: ${posts} posts, ${messages} messages identical, ${acts} acts`;
	return { compared, outcome: { identical: true, said } };
}
