/** Which of a guest's pools serve a device. */

import type { GuestPool, PoolNeed } from "../memory/pools.ts";
import { askForPool } from "../rules/compile.ts";
import type { DeviceSetting, GuestDeviceOptions } from "./device-options.ts";

/**
 * Chooses the pools of a device.
 * @param believed whether it is accepted, as far as the guest's policy knows
 * @returns the pool for buffers on shared pages, and that for private ones if it is another; null: none
 * @throws InputError when a policy chooses what it was not given
 */
export function choosePools(
	setting: Pick<DeviceSetting, "kernel" | "platform" | "policy" | "pools" | "defaultPool">,
	options: GuestDeviceOptions,
	believed: boolean,
): [GuestPool | null, GuestPool | null] {
	const { kernel, platform, policy } = setting;
	const { pools, matcher = platform.hostRead === "plain" ? firstOf : firstFitting } = options;
	if (policy?.pool !== undefined) {
		const choices = pools ?? setting.pools;
		const forPrivate = askForPool(policy, { isPrivate: true, accepted: believed }, choices);
		// none for private buffers means no pool: the engine would take the other one
		if (forPrivate === null) return [null, null];
		const forShared = askForPool(policy, { isPrivate: false, accepted: believed }, choices) ?? forPrivate;
		return [forShared, forShared === forPrivate ? null : forPrivate];
	}
	const accepted = kernel.knowsAcceptance && believed;
	if (pools === undefined) return [setting.defaultPool(accepted), null];
	const first = matcher({ isPrivate: false, accepted }, pools);
	const forPrivate = matcher({ isPrivate: true, accepted }, pools);
	// a device has one pool unless it has two; under a policy it keeps what it was given, whatever state that is in
	const forShared = first ?? forPrivate ?? (policy === null ? null : (pools[0] ?? null));
	return [forShared, forShared === forPrivate ? null : forPrivate];
}

/** Where nothing is private every pool fits. */
function firstOf(_need: PoolNeed, pools: readonly GuestPool[]): GuestPool | null {
	return pools[0] ?? null;
}

/** The first pool whose pages are what the buffer and the device's trust need. */
function firstFitting({ isPrivate, accepted }: PoolNeed, pools: readonly GuestPool[]): GuestPool | null {
	const needsShared = !(isPrivate && accepted);
	return pools.find(({ ccShared }) => ccShared === needsShared) ?? null;
}
