/** What each proposal comes to in a decision record, written again from the list of proposals. */
import { PLATFORMS, type PlatformName } from "../../src/coco/platform/platform.ts";
import { isGuest } from "./kernel-facts.ts";

/** A device and its guest. */
export interface ModelCase {
	readonly preset: string;
	readonly platform: PlatformName;
	readonly offered: boolean;
	readonly validated: boolean;
	/** Behind a port that anybody can reach. */
	readonly external: boolean;
	/** Accepted when its driver bound, whatever came after. */
	readonly acceptedAtBind: boolean;
	/** On the VMBus. */
	readonly vmbus: boolean;
	readonly restricted: boolean;
	readonly maskBits: number;
	readonly encoded: boolean;
	readonly forced: boolean;
	/** Modifiers. */
	readonly strict: boolean;
	readonly shares: boolean;
}

/** The parts of a record that policies decide. */
export interface ModelRecord {
	force: boolean;
	needsShared: boolean;
	checksState: boolean;
	pool: string;
	plain: boolean;
}

const RULES_7_3 = [
	"private-pool",
	"cc-accepted",
	"cc-accepted-bus",
	"t-fixed",
	"linux-7.3",
	"request-wins",
	"pool-wins",
	"pool-matcher",
	"capable-codes",
	"capable-codes-shared",
	"c-bit-decrypted",
	"c-bit-fail",
	"limits-reinspected",
	"static-pool",
	"one-property",
	"force-warned",
];
const OFFERS = [
	"bus-ops",
	"null-pool",
	"null-pool-early",
	"null-pool-restricted",
	"rfc-v3",
	"paravisor-bounce",
	"driver-flag",
];
const NOBODY = ["force-bounce", "linux-7.3", "bus-pool"];
const TDISP_ONLY = ["cc-accepted", "force-warned"];
/** Nothing but the acceptance that they know tells them from their kernel. */
const WITHOUT_SHARED_REACH = [
	"accepted-five",
	"driver-flag",
	"driver-flag-misuse",
	"two-allocators",
	"two-allocators-default",
	"paravisor-bounce",
];

/** Whether the policy takes the device for trusted. */
export function believes({ preset, offered, validated }: ModelCase): boolean {
	if (preset === "driver-flag-misuse") return true;
	if (NOBODY.includes(preset)) return false;
	if (OFFERS.includes(preset)) return offered;
	return TDISP_ONLY.includes(preset) ? validated : offered || validated;
}

/** The record of a device under a preset. */
export function recordByModel(one: ModelCase): ModelRecord {
	const { preset, platform, restricted, maskBits, forced } = one;
	const { dmaBit } = PLATFORMS[platform];
	const trusted = believes(one);
	const merged = RULES_7_3.includes(preset);
	// when it was posted, protected KVM had no attribute
	const isConfidential = isGuest(merged && preset !== "request-wins" ? "linux-7.3" : "linux-6.12", platform);
	const own = restricted ? "restricted" : "default";
	let force = restricted || forced || (isConfidential && !merged);
	// an encrypted host knows no acceptance: what ends below its bit reaches memory without it alone
	const isHost = PLATFORMS[platform].protection === "host";
	let needsShared = isHost ? maskBits <= (dmaBit?.bit ?? 64) : isConfidential && !(merged && trusted);
	let checksState = merged;
	let pool = own;
	let active = true;
	const reaches = (form: "private" | "shared") => !(one.encoded && dmaBit?.means === form && maskBits <= dmaBit.bit);
	if (trusted) {
		if (["driver-flag", "driver-flag-misuse", "bus-ops", "accepted-five"].includes(preset)) force = false;
		if (WITHOUT_SHARED_REACH.includes(preset)) needsShared = false;
		if (["bus-ops", "accepted-three", "accepted-five"].includes(preset)) active = false;
		if (["null-pool", "null-pool-restricted"].includes(preset)) {
			pool = "none";
			force = false;
			active = false;
		}
		if (preset.startsWith("two-allocators")) force = force && (forced || restricted);
		if (["two-allocators", "private-pool", "capable-codes"].includes(preset) && !restricted) pool = "private";
		if (preset === "limits-reinspected")
			pool = restricted || !reaches("private") ? "none" : reaches("shared") ? "default/private" : "private";
		if (preset === "pool-matcher") pool = restricted ? "none" : "default/private";
		if (preset === "paravisor-bounce" && !restricted) pool = "bus";
	} else if (preset === "pool-matcher" && !isConfidential && !isHost && !restricted) pool = "none";
	else if (preset === "limits-reinspected" && !((isConfidential || isHost || restricted) && reaches("shared")))
		pool = "none";
	if (pool === "none") {
		force = active = false;
	}
	if (preset === "two-allocators-default" && !restricted) pool = "private";
	if (preset === "static-pool" && !restricted && one.acceptedAtBind) pool = "private";
	if (preset === "one-property" && one.external) needsShared = true;
	if (preset === "bus-pool" && !restricted) pool = "bus";
	const bit = one.encoded && dmaBit?.means === "private" ? dmaBit.bit : -1;
	if (preset === "c-bit-fail" && trusted && maskBits <= bit) active = false;
	if (preset === "c-bit-decrypted" && maskBits <= bit) needsShared = true;
	if (preset === "pool-wins" || preset === "capable-codes-shared") {
		checksState = false;
		force ||= needsShared;
	}
	if (!active && !force) pool = "none";
	const plain = ["bus-ops", "driver-flag", "driver-flag-misuse"].includes(preset) && trusted ? true : !one.encoded;
	// whatever its operations take the device for: a mapping ends there
	if (preset === "bus-ops" && !one.vmbus) return { force: true, needsShared, checksState, pool: "none", plain };
	if (one.shares && (force || active)) {
		const state = merged && needsShared;
		if (!(one.strict && trusted))
			return { force: false, needsShared: force || state, checksState: true, pool: "none", plain };
	}
	if (one.strict && trusted) pool = "none";
	if (one.shares) pool = "none";
	return { force, needsShared, checksState, pool, plain };
}
