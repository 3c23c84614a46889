// What was written into a layout, as JSON.
#include "pipeline/write_layout.h"

namespace tsubu {

Json to_json(const WriteLayoutResult& result) {
  Json json;
  json["method"] = result.method;
  if (!result.scheme.empty()) json["scheme"] = result.scheme;
  if (!result.format.empty()) json["format"] = result.format;
  json["source_bytes"] = result.source_bytes;
  json["size_bytes"] = result.size_bytes;
  json["bits_per_weight"] = result.bits_per_weight;
  json["n_weights"] = result.n_weights;
  json["seconds"] = result.seconds;
  json["peak_rss_bytes"] = result.peak_rss_bytes;
  json["files"] = result.files;
  json["notes"] = result.notes;
  json["tensors"] = Json::array();
  for (const WrittenTensor& t : result.tensors) {
    Json item{{"name", t.name},     {"shape", t.shape},   {"type", t.layout == "float" ? t.kind : t.layout},
              {"kind", t.kind},     {"method", t.method}, {"size_bytes", t.size_bytes},
              {"rel_rmse", t.rel_rmse}};
    if (t.rel_output >= 0) item["rel_output"] = t.rel_output;
    json["tensors"].push_back(std::move(item));
  }
  return json;
}

}  // namespace tsubu
