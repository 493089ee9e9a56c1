/** The platforms that a demonstration can run on. */
import type { SynicPlatform } from "../../synic/modes.ts";

export const PLATFORM_NAMES = ["snp", "tdx", "vbs", "none"] as const;
export type PlatformName = (typeof PLATFORM_NAMES)[number];

/** Bit of the shared alias of RAM under a paravisor: SNP's vTOM, TDX's shared bit; VBS has one of its own. */
const BOUNDARIES: Readonly<Record<PlatformName, number>> = { snp: 2 ** 46, tdx: 2 ** 47, vbs: 2 ** 46, none: 0 };

/** A platform by its name. Without a paravisor, SNP and TDX guests name their pages by plain addresses. */
export function platformOf(isolation: PlatformName, paravisor: boolean): SynicPlatform {
	const hasAlias = paravisor || isolation === "vbs";
	return { isolation, paravisor, sharedGpaBoundary: hasAlias ? BOUNDARIES[isolation] : 0 };
}
