import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // The suites that run the program run the built one, and must never run yesterday's.
    globalSetup: 'test/build.ts',
    // Whole rotations run in child processes on two cores: a bound against hangs, not a measure of speed.
    testTimeout: 120_000,
    // Most of a test's time goes by in the programs that it runs.
    maxWorkers: 2,
    hookTimeout: 120_000,
  },
})
