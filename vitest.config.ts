import { defineConfig } from "vitest/config";

export default defineConfig({
	test: {
		include: ["test/**/*.test.ts"],
		globalSetup: ["test/builds.ts"],
		// what is built runs as it is
		server: { deps: { external: [/\/build\//] } },
		testTimeout: 120_000,
		reporters: process.env.CI ? ["default", ["json", { outputFile: "build/test-results.json" }]] : ["default"],
	},
});
