/** A device of a guest as coherent allocation sees it. */
import type { CoherentDevice } from "../memory/coherent-types.ts";
import type { GuestPool } from "../memory/pools.ts";
import { encodeGpa, type RuledDevice } from "../rules/kernel.ts";
import type { PredicateValues } from "../rules/policy.ts";
import { type DeviceSetting, type GuestDeviceOptions, limitOf } from "./device-options.ts";

/** The predicates that coherent memory asks. */
export type CoherentAnswers = Pick<PredicateValues, "forAlloc" | "usePool" | "forceDmaUnencrypted">;

/** What coherent memory asks of a device. */
export function coherentDeviceOf(
	device: {
		readonly name: string;
		readonly dma: { readonly index: number };
		readonly options: GuestDeviceOptions;
		readonly pool: GuestPool | null;
		readonly ruled: RuledDevice;
	},
	{ platform, slots, kernel, policy }: Pick<DeviceSetting, "platform" | "slots" | "kernel" | "policy">,
	{ forAlloc, usePool, forceDmaUnencrypted }: CoherentAnswers,
): CoherentDevice {
	const { name, dma, pool, options } = device;
	const { coherentDmaMask, dmaMask, busLimit, coherent = true } = options;
	const limit = limitOf(coherentDmaMask ?? dmaMask, busLimit);
	return {
		name,
		index: dma.index,
		needsShared: forceDmaUnencrypted,
		coherent,
		slots: pool?.restricted && forAlloc ? { ...slots, ccShared: pool.ccShared } : null,
		usesAtomicPools: usePool,
		checksPoolState: kernel.checksState && policy?.checksPoolState !== false,
		encode: (gpa, shared) => Number(encodeGpa(platform, device.ruled, gpa, shared)),
		fits: (address, bytes) => BigInt(address) + BigInt(bytes) - 1n <= limit,
	};
}
