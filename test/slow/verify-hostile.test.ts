import "../verify/hostile.test.ts";
