import { Engine } from "../../src/engine.ts";
import { PageState } from "../../src/memory/ram.ts";
import type { GuestChannel } from "../../src/vmbus/guest/channel.ts";
import { VmbusGuest } from "../../src/vmbus/guest/guest.ts";
import type { GuestCommand, GuestPorts, VmbusGuestOptions } from "../../src/vmbus/guest/options.ts";
import { EnginePages } from "../../src/vmbus/guest/pages.ts";
import { DecodeError, decodeMessage, encodeMessage } from "../../src/vmbus/wire/codec.ts";
import { DeviceType } from "../../src/vmbus/wire/guid.ts";
import { type Message, type MessageOf, MessageType } from "../../src/vmbus/wire/messages.ts";

const RAM_BYTES = 64 * 2 ** 20;

/** What a host answers to a message of the guest. */
export type Answers = (message: Message) => readonly Message[];

/** A host that does what it is asked, with these versions and features. */
export function goodHost(versions: readonly number[], features = 0): Answers {
	return (message) => {
		switch (message.type) {
			case MessageType.InitiateContact: {
				const supported = versions.includes(message.version) ? 1 : 0;
				const isNew = supported === 1 && message.version >= 0x60000;
				const featureFlags = features & (message.featureFlags ?? 0);
				return [
					{
						type: MessageType.VersionResponse,
						supported,
						connectionState: 0,
						connectionIdOrVersion: supported,
						...(isNew ? { featureFlags } : {}),
					},
				];
			}
			case MessageType.RequestOffers:
				return [{ type: MessageType.AllOffersDelivered }];
			case MessageType.GpadlHeader: {
				const bytes = Number((message.ranges[0] ?? 0n) & 0xffffffffn);
				return bytes / 4096 > 26 ? [] : [created(message.relid, message.gpadl)];
			}
			case MessageType.OpenChannel:
				return [{ type: MessageType.OpenChannelResult, relid: message.relid, openId: message.openId, status: 0 }];
			case MessageType.GpadlTeardown:
				return [{ type: MessageType.GpadlTorndown, gpadl: message.gpadl }];
			case MessageType.ModifyChannel:
				return [{ type: MessageType.ModifyChannelResponse, relid: message.relid, status: 0 }];
			case MessageType.ModifyConnection:
				return [{ type: MessageType.ModifyConnectionResponse, connectionState: 0 }];
			case MessageType.Pause:
				return [{ type: MessageType.PauseResponse }];
			case MessageType.Unload:
				return [{ type: MessageType.UnloadResponse }];
			default:
				return [];
		}
	};
}

export function created(relid: number, gpadl: number, status = 0): MessageOf<"GpadlCreated"> {
	return { type: MessageType.GpadlCreated, relid, gpadl, status };
}

/** An offer; relid n has instance n unless told otherwise. */
export function offer(relid: number, more: Partial<MessageOf<"OfferChannel">> = {}): MessageOf<"OfferChannel"> {
	return {
		type: MessageType.OfferChannel,
		interfaceId: DeviceType.Network,
		instanceId: `abc0${relid.toString(16).padStart(4, "0")}-0000-4000-8000-000000000000`,
		flags: 0,
		mmioMegabytes: 0,
		userData: new Uint8Array(120),
		subChannelIndex: 0,
		mmioMegabytesOptional: 0,
		relid,
		monitorId: 255,
		monitorAllocated: 0,
		dedicatedInterrupt: 1,
		connectionId: 0x2000 + relid,
		...more,
	};
}

export const rescind = (relid: number): Message => ({ type: MessageType.RescindChannelOffer, relid });

/** A guest on an engine of its own, and all that it did. */
export interface TestGuest {
	readonly engine: Engine;
	readonly isolated: boolean;
	readonly guest: VmbusGuest;
	readonly pages: EnginePages;
	/** What the guest posted, oldest first; and by which connection and path. */
	readonly posts: Message[];
	readonly ways: string[];
	readonly signals: { connectionId: number; flag: number; path: string }[];
	readonly bits: { gpa: number; bit: number }[];
	readonly ended: GuestCommand[];
	readonly added: GuestChannel[];
	readonly warnings: string[];
	/** ns */
	clock: number;
	/** What the host answers at once, and the status of a post. */
	answers: Answers;
	status: (message: Message) => number;
	/** Answers that are kept back instead of sent. */
	keeps: (message: Message) => boolean;
	readonly kept: Message[];
	send(...messages: Message[]): void;
	/** Sends what was kept back, oldest first. */
	release(count?: number): void;
	/** Types of the posts so far, which are then forgotten. */
	take(): number[];
	sharedPages(): number;
}

export async function testGuest(
	options: Partial<VmbusGuestOptions> = {},
	ports: Partial<GuestPorts> = {},
	answers: Answers = goodHost([0x60000, 0x50003], 0xff),
): Promise<TestGuest> {
	const isolated = (options.isolation ?? "none") !== "none";
	const engine = await Engine.create({
		ram: [{ gpa: 0, bytes: RAM_BYTES }],
		swiotlb: null,
		coco: isolated,
		spareBytes: 2 ** 22,
	});
	const pages = EnginePages.over(engine);
	const shared = () => engine.ram.pagesInState(PageState.Shared);
	const test: Omit<TestGuest, "guest"> = {
		engine,
		isolated,
		pages,
		posts: [],
		ways: [],
		signals: [],
		bits: [],
		ended: [],
		added: [],
		warnings: [],
		clock: 0,
		answers,
		status: () => 0,
		keeps: () => false,
		kept: [],
		send: (...messages) => {
			for (const message of messages) guest.message(encodeMessage(message));
		},
		release: (count = Number.POSITIVE_INFINITY) => {
			for (let left = count; left > 0 && test.kept.length > 0; left--)
				guest.message(encodeMessage(test.kept.shift() as Message));
		},
		take: () => test.posts.splice(0).map(({ type }) => type),
		sharedPages: shared,
	};
	const guest = new VmbusGuest({
		engine,
		cpus: 4,
		pages,
		...options,
		ports: {
			post: (connectionId, _, payload, path) => {
				const message = decodeMessage(payload);
				if (message instanceof DecodeError) throw new Error(message.text);
				test.posts.push(message);
				test.ways.push(`${connectionId.toString(16)} ${path}`);
				const status = test.status(message);
				if (status !== 0) return status;
				for (const answer of test.answers(message)) {
					if (test.keeps(answer)) test.kept.push(answer);
					else guest.message(encodeMessage(answer));
				}
				return 0;
			},
			signal: (connectionId, flag, path) => void test.signals.push({ connectionId, flag, path }),
			bitSet: (gpa, bit) => void test.bits.push({ gpa, bit }),
			finished: (command) => void test.ended.push(command),
			channelAdded: (channel) => void test.added.push(channel),
			warn: (text) => void test.warnings.push(text),
			now: () => test.clock,
			...ports,
		},
	});
	return Object.assign(test, { guest });
}

/** A connected guest with these offers. */
export async function connected(
	options: Partial<VmbusGuestOptions> = {},
	offers: readonly Message[] = [offer(1), offer(2)],
	ports: Partial<GuestPorts> = {},
	answers?: Answers,
): Promise<TestGuest> {
	const test = await testGuest(options, ports, answers);
	const { status } = test.guest.connect();
	if (status !== "ok") throw new Error(`not connected: ${status}`);
	test.send(...offers);
	test.take();
	return test;
}

export const RINGS = { sendPages: 2, receivePages: 2 } as const;
