/**
 * The connector for vLLM and a model of Mamba 2 layers beside attention. Method: hand-over.ts. Runs where `npm run engines:install` has put
 * vLLM.
 */
import { handOverRecurrence } from "./hand-over.ts";
import { engineTest } from "./in-process.ts";

engineTest("Mamba's state, of the convolution and of the recurrence, is handed over beside attention", (place, folder) =>
  handOverRecurrence(place, folder, "mamba"),
);
