#include "serve/vote_store.h"

#include <sqlite3.h>

#include <cmath>
#include <filesystem>
#include <mutex>

#include "base/error.h"
#include "evaluate/paired.h"

namespace tsubu::serve {
namespace {

constexpr const char* kSchema =
    "CREATE TABLE IF NOT EXISTS votes (id INTEGER PRIMARY KEY, time TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ','now')),"
    " model TEXT NOT NULL, base TEXT NOT NULL, winner TEXT, left_model TEXT NOT NULL, prompt_hash TEXT NOT NULL)";

}  // namespace

struct VoteStore::Database {
  sqlite3* db = nullptr;
  mutable std::mutex mutex;
  ~Database() { sqlite3_close(db); }

  [[noreturn]] void bad(const std::string& path) const {
    const int code = sqlite3_errcode(db);
    fail(code == SQLITE_NOTADB || code == SQLITE_CORRUPT ? ExitCode::kBadInput : ExitCode::kIo, "{}: votes: {}", path,
         sqlite3_errmsg(db));
  }

  struct Finalize {
    void operator()(sqlite3_stmt* s) const { sqlite3_finalize(s); }
  };
  using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;
  Statement prepare(const char* sql, const std::string& path, std::initializer_list<const std::string*> values) const {
    sqlite3_stmt* raw = nullptr;
    if (sqlite3_prepare_v2(db, sql, -1, &raw, nullptr) != SQLITE_OK) bad(path);
    Statement statement(raw);
    int i = 0;
    for (const std::string* v : values)
      if ((v ? sqlite3_bind_text(raw, ++i, v->data(), static_cast<int>(v->size()), SQLITE_TRANSIENT) : sqlite3_bind_null(raw, ++i)) != SQLITE_OK)
        bad(path);
    return statement;
  }
};

VoteCount counted(uint64_t model, uint64_t base, uint64_t ties) {
  VoteCount c{model, base, ties, 0.5, {0, 1}, 1};
  const double n = static_cast<double>(model + base);
  if (n == 0) return c;
  const double z = normal_quantile(0.975), share = static_cast<double>(model) / n;
  const double middle = (share + z * z / (2 * n)) / (1 + z * z / n);
  const double half = z / (1 + z * z / n) * std::sqrt(share * (1 - share) / n + z * z / (4 * n * n));
  c.share = share;
  c.ci95[0] = std::max(0.0, middle - half);
  c.ci95[1] = std::min(1.0, middle + half);
  c.p = mcnemar_exact(base, model);
  return c;
}

VoteStore::VoteStore(std::string path) : path_(std::move(path)), database_(std::make_unique<Database>()) {
  if (std::filesystem::exists(path_)) open();
}

VoteStore::~VoteStore() = default;

void VoteStore::open() {
  if (database_->db) return;
  if (sqlite3_open_v2(path_.c_str(), &database_->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, nullptr) != SQLITE_OK)
    database_->bad(path_);
  sqlite3_busy_timeout(database_->db, 2000);
  if (sqlite3_exec(database_->db, kSchema, nullptr, nullptr, nullptr) != SQLITE_OK) database_->bad(path_);
}

void VoteStore::add(const Vote& v) {
  const std::lock_guard lock(database_->mutex);
  open();
  const auto statement = database_->prepare(
      "INSERT INTO votes (model, base, winner, left_model, prompt_hash) VALUES (?, ?, ?, ?, ?)", path_,
      {&v.model, &v.base, v.winner.empty() ? nullptr : &v.winner, &v.left, &v.prompt_hash});
  if (sqlite3_step(statement.get()) != SQLITE_DONE) database_->bad(path_);
}

VoteCount VoteStore::count(const std::string& model, const std::string& base) const {
  const std::lock_guard lock(database_->mutex);
  if (!database_->db) return counted(0, 0, 0);
  const auto statement = database_->prepare("SELECT winner FROM votes WHERE model = ? AND base = ?", path_, {&model, &base});
  uint64_t n_model = 0, n_base = 0, ties = 0;
  int code;
  while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
    const auto* winner = reinterpret_cast<const char*>(sqlite3_column_text(statement.get(), 0));
    ++(!winner ? ties : winner == model ? n_model : n_base);
  }
  if (code != SQLITE_DONE) database_->bad(path_);
  return counted(n_model, n_base, ties);
}

}  // namespace tsubu::serve
