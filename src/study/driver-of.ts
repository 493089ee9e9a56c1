/** Which driver runs a replay. */
import { DriveTimes } from "./drive.ts";
import type { Driver } from "./driver.ts";
import { ReplayLoop } from "./loop.ts";
import type { Replay } from "./replay.ts";

/** The loop inside WebAssembly where the policy is all in the device's decision record, else TypeScript, command by command. */
export function driverOf(replay: Replay): Driver {
	return replay.stage.device.mechanism === "share-in-place" ? new DriveTimes(replay) : new ReplayLoop(replay);
}
