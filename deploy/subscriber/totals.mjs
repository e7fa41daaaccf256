// Follows the totals of a hub, reading only: a line for each message, until it is stopped.
//
//   KX_NATS          tls://host:port of the NATS site that the hub is connected to
//   KX_CERTIFICATES  the folder that `kx pki issue --reader CODE` has written
//   KX_SCOPE         the hub's scope; 000000, the nation, when absent
import path from "node:path";
import process from "node:process";
import { connect } from "nats";

const { KX_NATS = "tls://127.0.0.1:4222", KX_CERTIFICATES = "certificates", KX_SCOPE = "000000" } = process.env;
const file = (name) => path.join(KX_CERTIFICATES, name);

const connection = await connect({
  servers: KX_NATS,
  tls: {
    caFile: file("ca.crt"),
    certFile: file("tls.crt"),
    keyFile: file("tls.key"),
    // Whatever it is dialled by, a site is known by this name.
    servername: `${KX_SCOPE}.nats.kuaixiang.internal`,
  },
  // A site that restarts is back in seconds; whoever follows figures waits for it, however long that takes.
  maxReconnectAttempts: -1,
});
process.once("SIGINT", () => connection.close());
process.once("SIGTERM", () => connection.close());

for await (const message of connection.subscribe(`kx.v1.totals.${KX_SCOPE}`)) {
  const told = message.json();
  const { facts, open, overdue } = told.total;
  const { bureaus_up_to_date: upToDate, bureaus_expected: expected } = told.completeness;
  console.log(
    `${told.told_at} ${told.name} ${told.period}: ${facts.registered ?? 0} registered, ` +
      `${facts.completed ?? 0} completed, ${open} open, ${overdue} overdue; ${upToDate} of ${expected} bureaus up to date`,
  );
}
