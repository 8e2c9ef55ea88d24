/**
 * The Grafana board in `ops/grafana/eventodb.json`, from a list of its panels: `npm run board` writes it.
 * Its shape is held to Grafana's own types.
 */
import type { Dashboard, Panel, RowPanel } from "@grafana/schema";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const BOARD = new URL("../../ops/grafana/eventodb.json", import.meta.url);

type Unit = "s" | "bytes" | "short" | "reqps" | "percentunit" | "Bps" | "none";
type Query = [legend: string, query: string];
type Chart = { title: string; unit: Unit; about: string; queries: Query[] };
type Part = { title: string; charts: Chart[] };

/** Restricts a metric to the servers that are chosen at the top. */
const ON = 'instance=~"$instance"';
const rate = (metric: string, labels = "") => `rate(${metric}{${ON}${labels && `, ${labels}`}}[$__rate_interval])`;
const quantile = (q: number, metric: string, by = "", labels = "") =>
  `histogram_quantile(${q}, sum by (le${by && `, ${by}`}) (${rate(`${metric}_bucket`, labels)}))`;

const PARTS: Part[] = [
  {
    title: "Is it well?",
    charts: [
      {
        title: "Servers",
        unit: "none",
        about: "1 while a server answers.",
        queries: [["{{instance}}", `up{job="eventodb", ${ON}}`]],
      },
      {
        title: "Degraded",
        unit: "none",
        about: "Reasons why writes are refused, or soon will be. 0 while there is none.",
        queries: [["{{instance}} {{code}}", `eventodb_degraded{${ON}} or on (instance) 0 * up{job="eventodb", ${ON}}`]],
      },
      {
        title: "Requests by status",
        unit: "reqps",
        about: "What was answered.",
        queries: [["{{status}}", `sum by (status) (${rate("eventodb_requests_total")})`]],
      },
      {
        title: "Refused because of load",
        unit: "reqps",
        about: "By reason: clients try again later.",
        queries: [["{{reason}}", `sum by (reason) (${rate("eventodb_shed_total")})`]],
      },
    ],
  },
  {
    title: "Requests",
    charts: [
      {
        title: "Requests by method",
        unit: "reqps",
        about: "The ten most frequent ones.",
        queries: [["{{method}}", `topk(10, sum by (method) (${rate("eventodb_requests_total")}))`]],
      },
      {
        title: "Appends: time",
        unit: "s",
        about: "p50, p99 and p99.9 of stream.write, stream.append and streams.append.",
        queries: [0.5, 0.99, 0.999].map((q) => [
          `p${q * 100}`,
          quantile(q, "eventodb_request_duration_seconds", "", 'method=~"stream.write|stream.append|streams.append"'),
        ]),
      },
      {
        title: "Reads: time",
        unit: "s",
        about: "p50, p99 and p99.9 of reads of streams, categories and groups, without the time that they asked to wait.",
        queries: [0.5, 0.99, 0.999].map((q) => [
          `p${q * 100}`,
          quantile(
            q,
            "eventodb_request_duration_seconds",
            "",
            'method=~"stream.get|stream.last|stream.version|category.get|message.get|group.read"',
          ),
        ]),
      },
      {
        title: "Bytes",
        unit: "Bps",
        about: "On all connections.",
        queries: [
          ["in", `sum(${rate("eventodb_received_bytes_total")})`],
          ["out", `sum(${rate("eventodb_sent_bytes_total")})`],
        ],
      },
    ],
  },
  {
    title: "Appends",
    charts: [
      {
        title: "Messages written",
        unit: "short",
        about: "A second, on each server.",
        queries: [["{{instance}}", `sum by (instance) (${rate("eventodb_appended_messages_total")})`]],
      },
      {
        title: "Outcomes",
        unit: "reqps",
        about: "Appends that were written, repeated or refused.",
        queries: [["{{outcome}}", `sum by (outcome) (${rate("eventodb_appends_total")})`]],
      },
      {
        title: "Commit",
        unit: "s",
        about: "p99, and the longest of the last minute.",
        queries: [
          ["p99", quantile(0.99, "eventodb_commit_duration_seconds")],
          ["longest {{instance}}", `max by (instance) (eventodb_commit_recent_max_seconds{${ON}})`],
        ],
      },
      {
        title: "Queue",
        unit: "s",
        about: "How long appends wait for a batch: p99, and the longest of the last minute.",
        queries: [
          ["p99", quantile(0.99, "eventodb_append_queue_wait_seconds")],
          ["longest {{instance}}", `max by (instance) (eventodb_append_queue_wait_recent_max_seconds{${ON}})`],
        ],
      },
      {
        title: "Messages of a batch",
        unit: "short",
        about: "The mean and p99.",
        queries: [
          [
            "mean",
            `sum(${rate("eventodb_batch_messages_sum")}) / sum(${rate("eventodb_batch_messages_count")})`,
          ],
          ["p99", quantile(0.99, "eventodb_batch_messages")],
        ],
      },
      {
        title: "Versions in memory",
        unit: "percentunit",
        about: "Share of the streams that are written whose version is remembered.",
        queries: [
          [
            "{{instance}}",
            `sum by (instance) (${rate("eventodb_version_cache_lookups_total", 'result="hit"')}) / sum by (instance) (${rate("eventodb_version_cache_lookups_total")})`,
          ],
        ],
      },
    ],
  },
  {
    title: "Reads and subscriptions",
    charts: [
      {
        title: "Messages read",
        unit: "short",
        about: "A second, from memory and from the storage.",
        queries: [["{{source}}", `sum by (source) (${rate("eventodb_read_messages_total")})`]],
      },
      {
        title: "Subscriptions",
        unit: "short",
        about: "Open ones, by kind.",
        queries: [["{{kind}}", `sum by (kind) (eventodb_subscriptions{${ON}})`]],
      },
      {
        title: "Poke delay",
        unit: "s",
        about: "From a readable message to its poke: p99, and the longest of the last minute.",
        queries: [
          ["p99", quantile(0.99, "eventodb_poke_delay_seconds")],
          ["longest {{instance}}", `max by (instance) (eventodb_poke_delay_recent_max_seconds{${ON}})`],
        ],
      },
      {
        title: "Slowest subscription",
        unit: "short",
        about: "Messages between the head and its cursor.",
        queries: [["{{instance}}", `max by (instance) (eventodb_subscription_lag_max{${ON}})`]],
      },
    ],
  },
  {
    title: "Consumer groups",
    charts: [
      {
        title: "Messages to handle",
        unit: "short",
        about: "By group, counted up to a bound.",
        queries: [["{{namespace}} {{group}}", `max by (namespace, group) (eventodb_group_lag_messages{${ON}})`]],
      },
      {
        title: "Age of the oldest of them",
        unit: "s",
        about: "By group.",
        queries: [["{{namespace}} {{group}}", `max by (namespace, group) (eventodb_group_lag_seconds{${ON}})`]],
      },
      {
        title: "Parked streams",
        unit: "short",
        about: "By group.",
        queries: [["{{namespace}} {{group}}", `max by (namespace, group) (eventodb_group_parked_streams{${ON}})`]],
      },
      {
        title: "Partitions without an owner",
        unit: "short",
        about: "By group.",
        queries: [["{{namespace}} {{group}}", `max by (namespace, group) (eventodb_group_partitions_unowned{${ON}})`]],
      },
      {
        title: "Members",
        unit: "reqps",
        about: "Leases that expired, calls that were fenced, rebalances.",
        queries: [
          ["expired", `sum(${rate("eventodb_group_leases_expired_total")})`],
          ["fenced", `sum(${rate("eventodb_group_fenced_total")})`],
          ["rebalances", `sum(${rate("eventodb_group_rebalances_total")})`],
        ],
      },
      {
        title: "From a read to its checkpoint",
        unit: "s",
        about: "p50 and p99, of all groups.",
        queries: [0.5, 0.99].map((q) => [`p${q * 100}`, quantile(q, "eventodb_group_handling_seconds")]),
      },
    ],
  },
  {
    title: "Database and host",
    charts: [
      {
        title: "Connections to PostgreSQL in use",
        unit: "percentunit",
        about: "Of each pool.",
        queries: [
          [
            "{{instance}} {{pool}}",
            `(eventodb_pool_open{${ON}} - eventodb_pool_idle{${ON}}) / eventodb_pool_limit{${ON}}`,
          ],
        ],
      },
      {
        title: "Wait for a connection to PostgreSQL",
        unit: "s",
        about: "p99 of each pool.",
        queries: [["{{pool}}", quantile(0.99, "eventodb_pool_acquire_seconds", "pool")]],
      },
      {
        title: "Memory",
        unit: "bytes",
        about: "What the process has, and the budget for what waits for clients.",
        queries: [
          ["{{instance}}", `process_resident_memory_bytes{job="eventodb", ${ON}}`],
          ["budget {{instance}}", `eventodb_memory_budget_bytes{${ON}}`],
        ],
      },
      {
        title: "Processor",
        unit: "percentunit",
        about: "1 is a core.",
        queries: [["{{instance}}", `rate(process_cpu_seconds_total{job="eventodb", ${ON}}[$__rate_interval])`]],
      },
      {
        title: "Free on the disk of the data directory",
        unit: "bytes",
        about: "On SQLite.",
        queries: [["{{instance}}", `eventodb_disk_free_bytes{${ON}}`]],
      },
      {
        title: "TLS certificate",
        unit: "s",
        about: "How long it is still valid.",
        queries: [["{{instance}}", `eventodb_tls_certificate_end_timestamp_seconds{${ON}} - time()`]],
      },
      {
        title: "Connections of clients",
        unit: "short",
        about: "Open ones.",
        queries: [["{{instance}}", `sum by (instance) (eventodb_connections{${ON}})`]],
      },
    ],
  },
];

const SOURCE = { type: "prometheus", uid: "${source}" };
const [WIDTH, HEIGHT, COLUMNS] = [12, 8, 2];

function chart({ title, unit, about, queries }: Chart, id: number, x: number, y: number): Panel {
  return {
    id,
    type: "timeseries",
    title,
    description: about,
    datasource: SOURCE,
    gridPos: { x, y, w: WIDTH, h: HEIGHT },
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    options: { legend: { displayMode: "list", placement: "bottom" }, tooltip: { mode: "multi", sort: "desc" } },
    targets: queries.map(([legendFormat, expr], at) => ({
      refId: String.fromCharCode(65 + at),
      datasource: SOURCE,
      expr,
      legendFormat,
    })),
  };
}

/** The board: a row for each part, and two charts beside each other. */
export function board(): Dashboard {
  const panels: (Panel | RowPanel)[] = [];
  let [id, y] = [0, 0];
  for (const { title, charts } of PARTS) {
    panels.push({ id: ++id, type: "row", title, collapsed: false, gridPos: { x: 0, y, w: 24, h: 1 }, panels: [] });
    y += 1;
    charts.forEach((one, at) => {
      const row = Math.floor(at / COLUMNS);
      panels.push(chart(one, ++id, (at % COLUMNS) * WIDTH, y + row * HEIGHT));
    });
    y += Math.ceil(charts.length / COLUMNS) * HEIGHT;
  }
  return {
    uid: "eventodb",
    title: "EventoDB",
    description: "Servers of EventoDB, from the metrics in docs/METRICS.md.",
    tags: ["eventodb"],
    schemaVersion: 41,
    editable: true,
    refresh: "10s",
    time: { from: "now-1h", to: "now" },
    templating: {
      list: [
        { name: "source", label: "Prometheus", type: "datasource", query: "prometheus" },
        {
          name: "instance",
          label: "Server",
          type: "query",
          datasource: SOURCE,
          query: "label_values(eventodb_build_info, instance)",
          multi: true,
          includeAll: true,
          allValue: ".*",
          current: { text: "All", value: "$__all" },
        },
      ],
    },
    panels,
  };
}

/** The board as it stands in the file. */
export const text = () => `${JSON.stringify(board(), null, 2)}\n`;

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(BOARD, text());
