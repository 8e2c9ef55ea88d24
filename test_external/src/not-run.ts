/** The blocks of commands in the documents that no test runs, and why: each is marked `not-run-here`. */
const CITUS = "Citus is not installed here";
const RELEASE = ".ci/first-minute does it in a fresh root of Debian";

export const NOT_RUN: Record<string, string> = {
  "../README.md: git clone REPOSITORY eventodb   # instead of REPOSITORY, the URL of the repository that this page is in": "it fetches and builds what is being tested",
  "API.md: eventodb [serve] --data-dir /var/lib/eventodb --port 8080": "it shows the form of the command",
  "API.md: eventodb doctor --config /etc/eventodb/eventodb.toml": "it looks at a machine's own settings; command-line.test.ts has it look at a folder",
  "API.md: eventodb context add prod --url https://db.example --token-file ~/.prod-token": "it is for a server elsewhere; command-line.test.ts makes contexts",
  "GUIDE.md: cargo run -p eventodb-client --example bank_account": "it needs a compiler; cargo test runs the examples",
  "INSTALL.md: apt-get update && apt-get install -y curl ./eventodb_*.deb": RELEASE,
  "INSTALL.md: export EVENTODB_URL=http://127.0.0.1:8080 EVENTODB_TOKEN=$(cat /var/lib/eventodb/admin-token)": RELEASE,
  "OPERATIONS.md: sudo cat /var/lib/eventodb/admin-token": "systemd does not run here; make release-check starts the unit's command line",
  "OPERATIONS.md: docker build --tag eventodb .": "there is no Docker here; make release-check does the same with podman",
  "OPERATIONS.md: eventodb serve --host 0.0.0.0 --port 8443 --tls-cert /etc/eventodb/tls.crt --tls-key /etc/eventodb/tls.key": "it needs a certificate; cli/tests/process/tls makes some",
  "OPERATIONS.md: eventodb ns list --url https://events.example.com:8443 --ca-file /etc/eventodb/ca.crt": "it needs a certificate; cli/tests/process/tls makes some",
  "OPERATIONS.md: eventodb serve --otlp-endpoint http://127.0.0.1:4318": "it needs a collector of traces, and a build with the feature otel",
  "OPERATIONS.md: eventodb serve --log-format json 2>&1 | tee -a eventodb.log": "it does not end; audit.test.ts reads such lines",
  "OPERATIONS.md: eventodb token rotate default --data-dir ./data": "it is for a server that is stopped; administrator-token.test.ts does it",
  "OPERATIONS.md: eventodb group list --json | jq -r '.[].group' | while read -r group; do": "it is for files that were overwritten; a conformance case resets a group to itself",
  "OPERATIONS.md: sysctl vm.dirty_background_bytes=4194304          # with PostgreSQL": "it changes the machine",
  "PERFORMANCE.md: eventodb bench write category-get --connections 1,64 --preload 200000 --html report.html --json new.json": "it measures for minutes; make bench-smoke runs each scenario",
  "SCALING.md: apt-get install postgresql-17-citus-13.0": CITUS,
  "SCALING.md: sudo -u postgres psql -c \"ALTER ROLE postgres PASSWORD 'ADMIN_SECRET'\"": CITUS,
  "SCALING.md: sudo -u postgres psql -d events <<'END' SELECT citus_set_coordinator_host('coord', 5432);": CITUS,
  "SCALING.md: sudo -u postgres psql -d events <<'END' CREATE ROLE eventodb LOGIN PASSWORD 'SECRET';": CITUS,
  "SCALING.md: export EVENTODB_DB_URL='postgres://eventodb:SECRET@coord:5432/events?sslmode=verify-full&sslrootcert=/etc/eventodb/ca.crt'": CITUS,
  "SCALING.md: sudo -u postgres psql -d events <<'END' SELECT schema_name, colocation_id, schema_size FROM citus_schemas;": CITUS,
  "SCALING.md: eventodb migrate --db-url \"$EVENTODB_DB_URL\"": CITUS,
  "SCALING.md: sudo -u postgres psql -d events -v ON_ERROR_STOP=1 <<'END' SELECT format('SELECT citus_schema_distribute(%L)', s.nspname)": CITUS,
  "SCALING.md: -- One namespace to another worker, without blocking writes but for the last moment.": CITUS,
  "SCALING.md: SELECT nodeid, groupid, nodename FROM pg_dist_node;": CITUS,
  "SCALING.md: SELECT citus_create_restore_point('nightly-2026-01-31');": CITUS,
};
