import { defineConfig } from "vitest/config";

const SLOW = "test/slow/**/*.test.ts";

export default defineConfig({
	test: {
		// the default leaves a core idle: half of the machine where there are two
		maxWorkers: "100%",
		globalSetup: ["test/builds.ts"],
		// what is built runs as it is
		server: { deps: { external: [/\/build\//] } },
		reporters: process.env.CI ? ["default", "json"] : ["default"],
		outputFile: "build/test-results.json",
		projects: [
			{ extends: true, test: { name: "quick", include: ["test/**/*.test.ts"], exclude: [SLOW], testTimeout: 120_000 } },
			{ extends: true, test: { name: "slow", include: [SLOW], env: { COCO_SUITE: "slow" }, testTimeout: 600_000 } },
		],
	},
});
