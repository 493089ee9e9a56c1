/**
 * A hostile peer against both ends of a ring: between any two engine calls it flips, tears and replays what it can write.
 * One case is one seed. What must hold: no trap, nothing touched outside the ring's pages and the caller's buffer, no endless
 * iteration, no live id lost or completed twice, and the answers that the behaviour allows.
 */
import * as layout from "../../assembly/layout/ring.ts";
import * as status from "../../assembly/layout/status.ts";
import { Engine } from "../../src/engine.ts";
import type { Build, EngineExports } from "../../src/wasm.ts";

const PAGE = 4096;
const RAM_PAGES = 16;
/** Lies in every byte that is neither ring nor buffer; the peer and the senders never write it. */
const CANARY = 0xee;
const BUFFER_BYTES = 2048;
const REQUESTS = 8;

const CORRUPT = new Set<number>([
	status.RING_BAD_INDEX,
	status.RING_BAD_AVAILABLE,
	status.RING_BAD_LENGTH,
	status.RING_BAD_TYPE,
	status.RING_BAD_FLAGS,
	status.RING_BAD_RANGES,
]);

/** A small generator: xorshift32, so that a case is its seed. */
class Random {
	#state: number;
	constructor(seed: number) {
		this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
	}
	next(): number {
		let x = this.#state;
		x ^= x << 13;
		x ^= x >>> 17;
		x ^= x << 5;
		this.#state = x;
		return x >>> 0;
	}
	below(n: number): number {
		return this.next() % n;
	}
	/** Any byte but the canary. */
	byte(): number {
		const byte = this.next() >>> 24;
		return byte === CANARY ? 0 : byte;
	}
	pick<T>(values: readonly T[]): T {
		return values[this.below(values.length)] as T;
	}
}

/** What went wrong, with the seed that shows it again. */
export class FuzzFailure extends Error {}

/** Runs cases on one engine, which it makes once. */
export class RingFuzz {
	readonly #exports: EngineExports;
	readonly #u8: Uint8Array;
	readonly #data: DataView;
	readonly #ram: number;
	readonly #gpas: number;
	readonly #buffer: number;
	readonly #list: number;
	#random = new Random(0);
	#pages: number[] = [];
	#dataBytes = 0;
	#strict = false;
	#writer = 0;
	#reader = 0;
	#maxPacketBytes = 0;
	/** id to value, of the requests that are live. */
	readonly #live = new Map<number, number>();
	#sent = 0;
	/** How many answers of each kind were seen: proof that the cases reach something. */
	readonly seen = new Map<string, number>();

	private constructor(engine: Engine) {
		this.#exports = engine.instance.exports;
		this.#u8 = engine.instance.bytes;
		this.#data = engine.instance.data;
		this.#ram = this.#exports.ramPtr(0, RAM_PAGES * PAGE);
		this.#gpas = engine.scratch(RAM_PAGES * 8);
		this.#buffer = engine.scratch(BUFFER_BYTES + 512) + 256;
		this.#list = engine.scratch(1024);
	}

	static async create(build: Build): Promise<RingFuzz> {
		const engine = await Engine.create({ ram: RAM_PAGES * PAGE, swiotlb: null, build, spareBytes: 2 ** 20 });
		return new RingFuzz(engine);
	}

	#fail(what: string): never {
		throw new FuzzFailure(what);
	}

	/** Runs one case. @throws FuzzFailure */
	run(seed: number): void {
		try {
			this.#setUp(seed);
			const steps = 8 + this.#random.below(24);
			for (let i = 0; i < steps; i++) {
				this.#attack();
				this.#step();
			}
			this.#drain();
			this.#end();
		} catch (error) {
			const text = error instanceof FuzzFailure ? error.message : String(error);
			throw new FuzzFailure(`seed ${seed}: ${text}`);
		}
	}

	#setUp(seed: number): void {
		this.#random = new Random(seed);
		const random = this.#random;
		const count = 2 + random.below(3);
		const scattered = random.below(2) === 1;
		this.#strict = random.below(2) === 1;
		this.#pages = Array.from({ length: count }, (_, i) => (scattered ? 2 * (count - i) : 1 + i) * PAGE);
		this.#dataBytes = (count - 1) * PAGE;
		this.#maxPacketBytes = random.pick([16, 80, 1024, 4096, 65536]);
		this.#u8.fill(CANARY, this.#ram, this.#ram + RAM_PAGES * PAGE);
		for (const [i, gpa] of this.#pages.entries()) {
			this.#u8.fill(0, this.#ram + gpa, this.#ram + gpa + PAGE);
			this.#data.setFloat64(this.#gpas + 8 * i, gpa, true);
		}
		this.#u8.fill(CANARY, this.#buffer - 256, this.#buffer + BUFFER_BYTES + 256);
		const behaviour = this.#strict ? layout.RING_STRICT : 0;
		const attach = (flags: number, requests: number) =>
			this.#exports.ringAttach(this.#gpas, count, flags | behaviour, this.#maxPacketBytes, requests);
		this.#writer = attach(layout.RING_INIT, REQUESTS);
		this.#reader = attach(layout.RING_READER, 0);
		if (this.#writer < 0 || this.#reader < 0) this.#fail(`attach answered ${this.#writer}, ${this.#reader}`);
		this.#live.clear();
		this.#sent = 0;
	}

	#dataPtr(at: number): number {
		const index = at % this.#dataBytes;
		return this.#ram + (this.#pages[1 + Math.floor(index / PAGE)] as number) + (index % PAGE);
	}

	#field(ring: number, offset: number): number {
		return this.#data.getUint32(this.#exports.ringPtr(ring) + offset, true);
	}

	/** An index that means trouble. */
	#badIndex(): number {
		const random = this.#random;
		const at = this.#field(random.pick([this.#reader, this.#writer]), layout.RING_AT);
		return random.pick([
			at,
			at + 8 * random.below(8),
			at - 8 * random.below(8),
			at + random.below(24),
			random.below(this.#dataBytes),
			this.#dataBytes + random.below(32) - 16,
			random.next(),
			0xffffffff,
			0,
		]);
	}

	/** What the peer does between two calls; often nothing. */
	#attack(): void {
		const random = this.#random;
		const header = this.#ram + (this.#pages[0] as number);
		const at = this.#field(this.#reader, layout.RING_AT);
		switch (random.below(12)) {
			case 0:
				this.#data.setUint32(header + layout.HEADER_WRITE_INDEX, this.#badIndex(), true);
				break;
			case 1:
				this.#data.setUint32(header + layout.HEADER_READ_INDEX, this.#badIndex(), true);
				break;
			case 2:
				this.#data.setUint32(header + random.pick([8, 12, 64]), random.pick([0, 1, random.next(), 8192]), true);
				break;
			case 3: // a length or an offset of the next packet
				this.#word(at + random.pick([2, 4]), random.pick([0, 1, 2, 3, 600, 32767, 65535, random.below(65536)]));
				break;
			case 4: // type or flags
				this.#word(at + random.pick([0, 6]), random.pick([0, 6, 7, 9, 11, 12, 31, 32, 2, random.below(65536)]));
				break;
			case 5: // range count and ranges
				this.#word(at + 20, random.pick([0, 1, 2, 65535, random.below(65536)]));
				this.#word(at + 24 + 2 * random.below(4), random.pick([0, 1, 4096, 65535, random.below(65536)]));
				break;
			case 6: // a torn write somewhere
				for (let i = random.below(16); i > 0; i--) this.#u8[this.#dataPtr(at + random.below(256))] = random.byte();
				break;
			case 7: // one bit
				this.#flip(random.below(this.#dataBytes), random.below(8));
				break;
			case 8: {
				// a replay: bytes of an earlier packet come again
				const from = random.below(this.#dataBytes) & ~7;
				for (let i = 0; i < 64; i++) this.#u8[this.#dataPtr(at + i)] = this.#u8[this.#dataPtr(from + i)] as number;
				break;
			}
			default:
		}
	}

	#word(at: number, value: number): void {
		for (const [i, byte] of [value & 255, (value >> 8) & 255].entries())
			this.#u8[this.#dataPtr(at + i)] = byte === CANARY ? 0 : byte;
	}

	#flip(at: number, bit: number): void {
		const ptr = this.#dataPtr(at);
		const byte = (this.#u8[ptr] as number) ^ (1 << bit);
		this.#u8[ptr] = byte === CANARY ? 0 : byte;
	}

	#note(call: string, result: number): number {
		const key = `${call} ${result >= 0 ? "ok" : result}`;
		this.seen.set(key, (this.seen.get(key) ?? 0) + 1);
		return result;
	}

	#step(): void {
		const random = this.#random;
		switch (random.below(12)) {
			case 0:
			case 1:
			case 2:
				this.#write();
				break;
			case 3:
				this.#writeRanges();
				break;
			case 4:
				this.#reserve();
				break;
			case 5:
			case 6:
				this.#next();
				break;
			case 7:
				this.#read();
				break;
			case 8:
				this.#readBurst();
				break;
			case 9:
				this.#complete();
				break;
			case 10:
				this.#checkReader("release", this.#note("release", this.#exports.ringRelease(this.#reader)), 1);
				break;
			default:
				this.#exports.ringMask(this.#reader, random.below(2));
				this.#checkReader("endRead", this.#note("endRead", this.#exports.ringEndRead(this.#reader)), this.#dataBytes);
				this.#checkWriter(this.#exports.ringSetPending(this.#writer, random.pick([0, 64, 4000, random.next()])));
				if (random.below(8) === 0) this.#exports.ringResume(this.#reader);
		}
	}

	/** A writer's answer: what the behaviour allows. */
	#checkWriter(result: number): number {
		const allowed = [status.RING_FULL, status.REQUESTOR_FULL, status.RING_TOO_SMALL, status.RING_TOO_LARGE];
		if (result > 1 && result < 0x10000) this.#fail(`a write answered ${result}`);
		if (result < 0 && !allowed.includes(result) && !(this.#strict && result === status.RING_BAD_INDEX))
			this.#fail(`a write answered ${result}`);
		return result;
	}

	#checkReader(call: string, result: number, most: number): number {
		if (result > most) this.#fail(`${call} answered ${result}, more than ${most}`);
		const flow = result === status.RING_EMPTY || result === status.RING_TOO_SMALL;
		if (result < 0 && !flow && !(this.#strict && CORRUPT.has(result))) this.#fail(`${call} answered ${result}`);
		return result;
	}

	/** Notes the id that an accepted packet got. */
	#accepted(kind: number, value: number, result: number): void {
		if (result < 0 || kind >>> 16 !== 1) return;
		const id = this.#field(this.#writer, layout.RING_GIVEN_ID);
		if (id < 1 || id > REQUESTS || this.#live.has(id)) this.#fail(`id ${id} was given while live, or is none`);
		this.#live.set(id, value);
	}

	#fillBuffer(bytes: number): void {
		for (let i = 0; i < bytes; i += 7) this.#u8[this.#buffer + i] = this.#random.byte();
		for (let i = 0; i < bytes; i++) if (this.#u8[this.#buffer + i] === CANARY) this.#u8[this.#buffer + i] = 1;
	}

	#write(): void {
		const random = this.#random;
		const bytes = random.pick([0, 1, 8, 40, random.below(256), random.below(BUFFER_BYTES)]);
		this.#fillBuffer(bytes);
		const kind = (random.below(2) << 16) | random.pick([6, 7, 9, 11]);
		const value = ++this.#sent;
		const { ringWrite, ringPut } = this.#exports;
		const result = random.below(4) === 0 ? ringPut : ringWrite;
		const answer = this.#checkWriter(this.#note("write", result(this.#writer, kind, value, 0, this.#buffer, bytes)));
		this.#accepted(kind, value, answer);
	}

	#writeRanges(): void {
		const random = this.#random;
		const count = 1 + random.below(3);
		for (let i = 0; i < count; i++) {
			this.#data.setUint32(this.#list + 16 * i, 1 + random.below(4096), true);
			this.#data.setUint32(this.#list + 16 * i + 4, 0, true);
			this.#data.setUint32(this.#list + 16 * i + 8, random.below(1024), true);
			this.#data.setUint32(this.#list + 16 * i + 12, 0, true);
		}
		for (let i = 0; i < 16 * count; i++) if (this.#u8[this.#list + i] === CANARY) this.#u8[this.#list + i] = 1;
		this.#fillBuffer(40);
		const kind = (1 << 16) | layout.PACKET_GPA_DIRECT;
		const value = ++this.#sent;
		const { ringPutRanges } = this.#exports;
		const put = ringPutRanges(this.#writer, kind, value, 0, 0, this.#list, 16 * count, count, this.#buffer, 40);
		this.#accepted(kind, value, this.#checkWriter(this.#note("ranges", put)));
		this.#checkWriter(this.#exports.ringPublish(this.#writer));
	}

	#reserve(): void {
		const bytes = this.#random.below(512);
		const ptr = this.#note("reserve", this.#exports.ringReserve(this.#writer, bytes));
		if (ptr < 0) {
			this.#checkWriter(ptr);
			return;
		}
		this.#u8.fill(0x55, ptr, ptr + bytes);
		this.#attack();
		const value = ++this.#sent;
		const result = this.#exports.ringCommit(this.#writer, (1 << 16) | 6, value, 0, bytes);
		this.#accepted(1 << 16, value, this.#checkWriter(result));
		this.#checkWriter(this.#exports.ringPublish(this.#writer));
	}

	/** Takes a packet and looks at all of it, while the peer goes on. */
	#next(): void {
		const inPlace = this.#random.below(2);
		const payload = this.#checkReader("next", this.#note("next", this.#exports.ringNext(this.#reader, inPlace)), 65536);
		if (payload < 0) return;
		const record = this.#exports.ringPtr(this.#reader);
		const offset = this.#data.getUint16(record + layout.RING_PACKET_HEAD + 2, true) * 8;
		const bytes = this.#data.getUint16(record + layout.RING_PACKET_HEAD + 4, true) * 8;
		if (bytes < 16 || bytes >= this.#dataBytes || offset < 16 || offset + payload !== bytes)
			this.#fail(`a packet of ${bytes} bytes with its payload of ${payload} at ${offset}`);
		const packet = this.#exports.ringPacket(this.#reader);
		if (inPlace === 0) {
			const before = Buffer.from(this.#u8.subarray(packet, packet + bytes));
			this.#attack();
			if (!before.equals(this.#u8.subarray(packet, packet + bytes))) this.#fail("a copied packet changed");
			if (before.readUInt16LE(4) * 8 !== bytes || before.readUInt16LE(2) * 8 !== offset)
				this.#fail("the copy's lengths are not those that were checked");
		} else this.#attack();
		this.#noCanaryAt(packet, bytes);
		this.#walk(packet, bytes);
		if (this.#random.below(2) === 0) this.#exports.ringAdvance(this.#reader);
	}

	#walk(packet: number, bytes: number): void {
		const count = this.#note("ranges walked", this.#exports.ringRanges(this.#reader));
		const end = (result: number) => {
			if (result !== status.BAD_ARGUMENT && result !== status.RING_BAD_RANGES) this.#fail(`ranges: ${result}`);
		};
		if (count < 0) {
			end(count);
			return;
		}
		if (count * 8 > bytes) this.#fail(`${count} ranges in ${bytes} bytes`);
		const record = this.#exports.ringPtr(this.#reader);
		const base = packet - this.#data.getUint32(record + layout.RING_PACKET_PTR, true);
		for (let i = 0; ; i++) {
			if (this.#random.below(4) === 0) this.#attack();
			const left = this.#note("range", this.#exports.ringNextRange(this.#reader));
			if (left === 0) break;
			if (left < 0) {
				end(left);
				break;
			}
			const from = base + this.#data.getUint32(record + layout.RING_RANGE_PFNS, true);
			const to = from + 8 * this.#data.getUint32(record + layout.RING_RANGE_NPFNS, true);
			if (i > count || from < packet || to > packet + bytes) this.#fail("a range outside its packet");
		}
	}

	#read(): void {
		const random = this.#random;
		const room = random.pick([1, 16, 64, 1024, BUFFER_BYTES]);
		const result = this.#exports.ringRead(this.#reader, random.below(2), this.#buffer, room);
		this.#checkReader("read", this.#note("read", result), 2 * room + 1);
		if (result >= 0) this.#noCanary(result >> 1);
	}

	#readBurst(): void {
		const result = this.#exports.ringReadBurst(this.#reader, this.#buffer, BUFFER_BYTES, 1 + this.#random.below(8));
		this.#checkReader("readBurst", this.#note("readBurst", result), 17);
		if (result >= 0) this.#noCanary(this.#field(this.#reader, layout.RING_BURST_BYTES));
	}

	#noCanary(bytes: number): void {
		if (bytes > BUFFER_BYTES) this.#fail(`${bytes} bytes in a buffer of ${BUFFER_BYTES}`);
		this.#noCanaryAt(this.#buffer, bytes);
		this.#u8.fill(CANARY, this.#buffer + bytes, this.#buffer + BUFFER_BYTES);
	}

	/** A length or a trailer may hold the canary's value once, but never four times in a row. */
	#noCanaryAt(ptr: number, bytes: number): void {
		let run = 0;
		for (let i = 0; i < bytes; i++) {
			run = this.#u8[ptr + i] === CANARY ? run + 1 : 0;
			if (run === 4) this.#fail("bytes from outside the ring were read");
		}
	}

	/** A completion with any id: accepted exactly when the id is live, with the value that was sent. */
	#complete(): void {
		const id = this.#random.below(REQUESTS + 3);
		const high = this.#random.below(8) === 0 ? this.#random.next() | 1 : 0;
		const result = this.#note("complete", this.#exports.ringComplete(this.#writer, id, high));
		const value = high === 0 ? this.#live.get(id) : undefined;
		if ((result === status.OK) !== (value !== undefined)) this.#fail(`completion of id ${id} answered ${result}`);
		if (value === undefined) return;
		const found = this.#exports.requestorOf(this.#writer) + layout.REQUESTOR_FOUND;
		if (this.#data.getUint32(found, true) !== value) this.#fail(`id ${id} stood for another value`);
		this.#live.delete(id);
	}

	/** Without the peer's help, iteration ends before more packets than the ring could ever hold. */
	#drain(): void {
		const most = 2 * (Math.ceil(this.#dataBytes / 24) + 2);
		let n = 0;
		let result = 0;
		while (result >= 0) {
			result = this.#checkReader("next", this.#exports.ringNext(this.#reader, n & 1), 65536);
			if (++n > most) this.#fail("iteration does not end");
		}
		this.#checkReader("release", this.#exports.ringRelease(this.#reader), 1);
		if (result === status.RING_EMPTY && this.#exports.ringEndRead(this.#reader) > 0)
			this.#fail("empty, but not at rest");
		for (n = 0; this.#exports.ringRead(this.#reader, 1, this.#buffer, BUFFER_BYTES) >= 0; n++)
			if (n > most) this.#fail("reading does not end");
		if (this.#strict && result < 0 && CORRUPT.has(result) && this.#exports.ringNext(this.#reader, 0) !== result)
			this.#fail("a corrupt ring went on");
	}

	#end(): void {
		const live = this.#data.getUint32(this.#exports.requestorOf(this.#writer) + layout.REQUESTOR_LIVE, true);
		if (live !== this.#live.size) this.#fail(`${live} live ids, ${this.#live.size} known`);
		for (const [id, value] of this.#live) {
			if (this.#exports.ringComplete(this.#writer, id, 0) !== 0) this.#fail(`live id ${id} (${value}) was lost`);
		}
		for (let page = 0; page < RAM_PAGES; page++) {
			if (this.#pages.includes(page * PAGE)) continue;
			const from = this.#ram + page * PAGE;
			for (let i = 0; i < PAGE; i += 8)
				if (this.#data.getUint32(from + i) !== 0xeeeeeeee || this.#data.getUint32(from + i + 4) !== 0xeeeeeeee)
					this.#fail(`page ${page} beside the ring was written`);
		}
		for (let i = 1; i <= 256; i++) {
			if (this.#u8[this.#buffer - i] !== CANARY || this.#u8[this.#buffer + BUFFER_BYTES + i - 1] !== CANARY)
				this.#fail("the buffer's surroundings were written");
		}
		this.#exports.ringDetach(this.#reader);
		this.#exports.ringDetach(this.#writer);
	}
}
