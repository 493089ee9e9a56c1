/** VMBus rings and GPADL buffers: guest memory that a host may read and that never passes through the DMA API. */
import { TrustError } from "../coco/trust/error.ts";
import { trustOfOffer } from "../coco/trust/offer.ts";
import { Engine } from "../engine.ts";
import { hasParavisor, type Scenario } from "../policy/scenarios.ts";
import type { PolicySetup } from "../policy/setup.ts";
import { VmbusSystem } from "../vmbus/system/system.ts";
import { DeviceType } from "../vmbus/wire/guid.ts";
import { OfferFlag, Version } from "../vmbus/wire/versions.ts";
import { type Cause, trustCause } from "./cause.ts";
import { NO_BYTES, type Verdict, verdictOf } from "./verdict.ts";

/** One kind of memory of a channel, and what the host could read of what the guest put there. */
export interface VmbusCell {
	readonly scenario: string;
	/** What becomes of the guest's attempt at a confidential connection. */
	readonly connection: PolicySetup["connection"];
	/** What the host could read of it: its part names the kind of memory. It is confidential by the offer: the ring and external memory apart. */
	readonly verdict: Verdict;
}

const PAYLOAD = Uint8Array.from({ length: 256 }, (_, i) => 255 - i);
const BUFFER_BYTES = 4096;
/** EAX of CPUID leaf 0x40000082 with the bit for Confidential VMBus. */
const CPUID_EAX = 1 << 3;
/** SNP's vTOM: the shared alias of RAM begins there. */
const VTOM = 2 ** 46;
const INSTANCE = "c0c0d3a0-0000-4000-8000-000000000001";

/**
 * Opens the scenario's channel as its offer says, sends a packet of 256 bytes and fills a buffer that it gave the device.
 * @returns a cell a kind of memory; none for a scenario that is no VMBus device
 */
export async function runVmbusRows(connection: PolicySetup["connection"], scenario: Scenario): Promise<VmbusCell[]> {
	if (scenario.trust.by !== "offer" || !hasParavisor(scenario)) return [];
	const { coRingBuffer, coExternalMemory } = scenario.trust.flags;
	const works = connection === "confidential";
	const rows = [
		{ part: "VMBus ring", confidential: works && coRingBuffer },
		{ part: "GPADL buffer", confidential: works && coExternalMemory },
	];
	const cell = (part: string, confidential: boolean, bytes: number, cause: Cause | null): VmbusCell => {
		const place = { part, platform: "snp-vtom", encoded: true };
		const facts = {
			...NO_BYTES,
			confidential,
			bytes,
			atOnceBytes: null,
			generations: bytes > 0 ? 1 : 0,
			cause,
			hazards: [],
		};
		return { scenario: scenario.name, connection, verdict: verdictOf({ ...place, ...facts }) };
	};
	if (connection === "no-fallback" && (coRingBuffer || coExternalMemory))
		return rows.map(({ part }) => cell(part, false, 0, { what: "no-fallback" }));
	try {
		if (works) trustOfOffer(scenario.trust.flags, { confidential: true, version: Version.V6_0 });
	} catch (error) {
		if (!(error instanceof TrustError)) throw error;
		const cause = trustCause(error);
		return rows.map(({ part }) => cell(part, false, 0, cause));
	}
	const bytes = await carried(
		works
			? (coRingBuffer ? OfferFlag.ConfidentialRingBuffer : 0) |
					(coExternalMemory ? OfferFlag.ConfidentialExternalMemory : 0)
			: 0,
	);
	return rows.map(({ part, confidential }, i) => cell(part, confidential, bytes[i] as number, null));
}

/** Bytes that reached shared pages of what went through the ring, and of what was put into the buffer. */
async function carried(flags: number): Promise<readonly [number, number]> {
	const engine = await Engine.create({
		ram: 4 * 2 ** 20,
		swiotlb: null,
		spareBytes: 2 ** 20,
		build: "engine.audit",
		auditEvents: 1024,
	});
	const { audit } = engine;
	if (audit === null) throw new Error("the build engine.audit audits nothing");
	const confidential = flags !== 0;
	const system = await VmbusSystem.create({
		engine,
		platform: { isolation: "snp", paravisor: true, sharedGpaBoundary: VTOM },
		paravisorServes: confidential,
		...(confidential ? { confidential: { how: "cpuid" as const, eax: CPUID_EAX } } : {}),
	});
	const vsp = confidential ? system.paravisor : system.host;
	const offered = vsp?.offer({ interfaceId: DeviceType.Scsi, instanceId: INSTANCE, flags });
	if (typeof offered !== "number") throw new Error(`the offer was refused: ${offered}`);
	const settled = (what: string, status: string | undefined) => {
		if (status !== "ok") throw new Error(`${what}: ${status ?? "waits"}`);
	};
	settled("connect", system.guest.connect().status);
	const [relid = 0] = [...system.guest.channels.keys()];
	settled("open", system.guest.open(relid, { sendPages: 4, receivePages: 4 }).status);
	const buffer = system.guest.gpadl(relid, 1);
	settled("gpadl", buffer.status);
	const [ring, memory] = [true, false].map((secret) =>
		audit.label({ owner: 0, isPrivate: true, secret, accepted: secret }),
	);
	if (ring === undefined || memory === undefined || buffer.result === undefined) throw new Error("no buffer");
	// what the device answers is its own
	system.lazy = true;
	audit.pen = ring;
	settled("send", system.send(relid, PAYLOAD));
	audit.pen = memory;
	engine.ram.write(buffer.result.gpa, new Uint8Array(BUFFER_BYTES).fill(0x5a));
	audit.pen = null;
	return [audit.totals(ring).sharedBytes, audit.totals(memory).sharedBytes];
}
