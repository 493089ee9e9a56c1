/** Before any test: everything that tests run is made, if it is stale. */
import { build, SETS } from "../build.ts";

export default async function makeBuilds(): Promise<void> {
	await build(SETS.tests);
}
