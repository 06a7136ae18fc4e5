/** Every fuzz target. To add one: write a file that exports a Target (target.ts; `pureTarget` for a function of bytes) and name it here. */
import type { Target } from "./target.ts";
import { poolTargets } from "./targets/pool.ts";
import { answerTargets } from "./targets/answers.ts";
import { apiTargets } from "./targets/api.ts";
import { apiClientTargets } from "./targets/api-client.ts";
import { apiSessionTargets } from "./targets/api-session.ts";
import { benchTargets } from "./targets/bench.ts";
import { codecTargets } from "./targets/codec.ts";
import { codedLaneTargets } from "./targets/coded-lanes.ts";
import { coderTargets } from "./targets/coders.ts";
import { configTargets } from "./targets/config.ts";
import { controlTargets } from "./targets/control.ts";
import { deviceTargets } from "./targets/device.ts";
import { frameTargets } from "./targets/frames.ts";
import { layoutTargets } from "./targets/layouts.ts";
import { llamaTargets } from "./targets/llama-state.ts";
import { mergedTargets } from "./targets/merged.ts";
import { peerSessionTargets } from "./targets/peer-session.ts";
import { profileTargets } from "./targets/profiles.ts";
import { messageTargets } from "./targets/messages.ts";
import { laneTargets } from "./targets/lanes.ts";
import { tlsTargets } from "./targets/tls.ts";
import { tlsRecordTargets } from "./targets/tls-records.ts";

export const targets: readonly Target[] = [
  ...frameTargets,
  ...controlTargets,
  ...tlsTargets,
  ...tlsRecordTargets,
  ...laneTargets,
  ...codedLaneTargets,
  ...answerTargets,
  ...messageTargets,
  ...peerSessionTargets,
  ...layoutTargets,
  ...profileTargets,
  ...poolTargets,
  ...apiTargets,
  ...apiSessionTargets,
  ...apiClientTargets,
  ...codecTargets,
  ...mergedTargets,
  ...deviceTargets,
  ...configTargets,
  ...benchTargets,
  ...llamaTargets,
  ...coderTargets,
];
