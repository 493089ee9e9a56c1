/** Scenarios of a whole system: what is set up, and what is done. */

import { CPUID_CONFIDENTIAL_VMBUS } from "../guest/connection.ts";
import { DeviceType } from "../wire/guid.ts";
import { OfferFlag } from "../wire/versions.ts";
import type { SystemEvent } from "./events.ts";
import { platformOf, type SystemOptions, type SystemPlatform } from "./options.ts";
import { SystemStage, type SystemState } from "./stage.ts";

const RING = OfferFlag.ConfidentialRingBuffer;
const ALL = OfferFlag.ConfidentialRingBuffer | OfferFlag.ConfidentialExternalMemory;
const BY_CPUID = { how: "cpuid", eax: CPUID_CONFIDENTIAL_VMBUS } as const;
const BY_TRY = { how: "try-then-fallback" } as const;
/** Requests that a device leaves unanswered when it is taken away. */
const REQUESTS = 8;

export interface SystemScenario {
	readonly name: string;
	readonly about: string;
	/** The first is the default. */
	readonly platforms: readonly SystemPlatform[];
	readonly paravisor: boolean;
	readonly options: Omit<SystemOptions, "platform">;
	play(stage: SystemStage): void;
}

/** What a scenario came to: all that happened, and what was found in the end. */
export interface ScenarioResult extends SystemState {
	readonly scenario: string;
	readonly about: string;
	readonly platform: SystemPlatform;
	readonly events: readonly SystemEvent[];
}

function device(n: number, interfaceId: string, flags = 0) {
	return { interfaceId, instanceId: `c0c0d3a0-0000-4000-8000-${n.toString(16).padStart(12, "0")}`, flags };
}
const { Network, Scsi } = DeviceType;

/** The host offers a device; the guest uses it. */
function hostOnly(stage: SystemStage): void {
	stage.offer(stage.system.host, "network", device(1, Network));
	stage.connect();
	stage.useAll();
}

function paravisorOf({ system }: SystemStage) {
	if (system.paravisor === null) throw new Error("the scenario has no paravisor's server");
	return system.paravisor;
}

function paravisorOffers(flags: number) {
	return (stage: SystemStage) => {
		stage.offer(paravisorOf(stage), "network", device(1, Network, flags));
		stage.connect();
		stage.useAll();
	};
}

function relayed(stage: SystemStage): void {
	stage.offer(stage.system.host, "the host's disk", device(1, Scsi, ALL));
	stage.offer(paravisorOf(stage), "the paravisor's network", device(2, Network, ALL));
	stage.system.startRelay();
	stage.connect();
	stage.useAll();
}

/** Both devices go while one has unanswered requests and the other is being opened. */
function rescind(stage: SystemStage): void {
	const { system } = stage;
	const paravisor = paravisorOf(stage);
	const network = stage.offer(paravisor, "network", device(1, Network, RING));
	const disk = stage.offer(paravisor, "disk", device(2, Scsi));
	stage.connect();
	const [first, second] = [network, disk].map((offerId) => paravisor.server.channel(offerId)?.info?.relid ?? 0);
	if (first === undefined || second === undefined) return;
	stage.open(first);
	system.lazy = true;
	system.note("the devices are busy from now on");
	for (let i = 0; i < REQUESTS; i++)
		system.send(first, new Uint8Array(64).fill(i), { id: stage.id(), wantsCompletion: true });
	const open = stage.open(second);
	// the ring's GPADL is made, and the guest waits for the result of its OPENCHANNEL
	system.step(system.due - 1);
	stage.remember();
	for (const offerId of [network, disk]) paravisor.revoke(offerId);
	system.note(`open channel ${second}: ${open.status ?? "still waits"}`);
	system.note(`channel ${first}: ${stage.take(first).length} of ${REQUESTS} requests were answered`);
	system.lazy = false;
	system.settle();
}

const HARDWARE = ["snp", "tdx"] as const;
const WITH_PARAVISOR = { platforms: HARDWARE, paravisor: true } as const;
const SERVED = { paravisorServes: true, confidential: BY_CPUID } as const;

export const SYSTEM_SCENARIOS: readonly SystemScenario[] = [
	{
		name: "no-paravisor",
		about: "the guest and an untrusted host; everything on the bus is shared",
		platforms: ["snp", "tdx", "vbs", "none"],
		paravisor: false,
		options: {},
		play: hostOnly,
	},
	{
		name: "paravisor",
		about: "a paravisor without VMBus: the guest passes it by and talks to the host",
		...WITH_PARAVISOR,
		options: {},
		play: hostOnly,
	},
	{
		name: "confidential-ring",
		about: "Confidential VMBus: a device of the paravisor with private rings",
		...WITH_PARAVISOR,
		options: SERVED,
		play: paravisorOffers(RING),
	},
	{
		name: "confidential-all",
		about: "Confidential VMBus: private rings, and private external memory",
		...WITH_PARAVISOR,
		options: SERVED,
		play: paravisorOffers(ALL),
	},
	{
		name: "fallback-cpuid",
		about: "CPUID promises Confidential VMBus, the connection fails: an error, as merged into Linux",
		...WITH_PARAVISOR,
		options: { confidential: BY_CPUID },
		play: hostOnly,
	},
	{
		name: "fallback-try",
		about: "the guest tries Confidential VMBus, fails, undoes it and connects to the host, as first designed",
		...WITH_PARAVISOR,
		options: { confidential: BY_TRY },
		play: hostOnly,
	},
	{
		name: "relayed",
		about: "the paravisor relays a disk of the host beside its own network: one shared, one private",
		...WITH_PARAVISOR,
		options: { ...SERVED, relays: true },
		play: relayed,
	},
	{
		name: "rescind",
		about: "two devices go under load: one with unanswered requests, one while it is being opened",
		...WITH_PARAVISOR,
		options: SERVED,
		play: rescind,
	},
];

/** Plays a scenario. */
export async function playScenario(scenario: SystemScenario, platform: SystemPlatform): Promise<ScenarioResult> {
	const stage = await SystemStage.create({ ...scenario.options, platform: platformOf(platform, scenario.paravisor) });
	scenario.play(stage);
	const found = stage.finish();
	const { name, about } = scenario;
	return { scenario: name, about, platform, events: stage.system.events, ...found };
}
