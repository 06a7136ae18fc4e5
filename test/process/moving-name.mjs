// A name whose address changes while a process runs: `holder.test` is what the file says that KVFERRY_TEST_ADDRESS names.
import dns from "node:dns";
import { readFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const lookup = dns.lookup;
dns.lookup = (host, options, done) => {
  if (host !== "holder.test") return lookup(host, options, done);
  process.nextTick(done, null, [{ address: readFileSync(process.env.KVFERRY_TEST_ADDRESS, "utf8"), family: 4 }]);
};
syncBuiltinESMExports();
